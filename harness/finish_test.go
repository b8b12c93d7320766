package harness

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/harness/steps"
	"meshsim.dev/meshsim/harness/traffic/agents"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// stuck is a step that is never undone.
type stuck struct{ given *[]time.Duration }

func (s stuck) Execute(context.Context) error { return nil }

func (s stuck) Undo(ctx context.Context) error {
	began := time.Now()
	<-ctx.Done()
	*s.given = append(*s.given, time.Since(began))
	return context.Cause(ctx)
}

func TestWhatHangsInTheCleanUpKeepsNothingElseFromItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder, err := results.Create(t.TempDir(), "run")
		require.NoError(t, err)
		var removed []bool // whether there was time for it
		fleet, err := agents.New(agents.Options{
			Cluster: agents.Cluster{Clientset: fake.NewClientset(), RemoveNamespace: func(ctx context.Context, _ string) error {
				end, bounded := ctx.Deadline()
				removed = append(removed, bounded && time.Until(end) == removing)
				return nil
			}},
			Traffic: scenarios.Traffic{Mix: map[string]int{"browse": 1}, Agents: []scenarios.Agents{{Name: "load", Count: 1, Share: 0.5, Target: "edge"}}},
			Phase:   "first", Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		raising, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, fleet.Raise(raising, "first"), "it was on its way when the run was interrupted")
		removed = nil

		var given []time.Duration
		r := &rehearsal{Options: Options{Undo: true}, folder: folder, fleet: fleet, undo: []steps.Undoer{stuck{&given}, stuck{&given}}}
		began := time.Now()
		err = r.finish(raising, errors.New("it was interrupted"))
		require.ErrorContains(t, err, "it took longer than 3m0s")
		require.Equal(t, []bool{true}, removed, "the agents go first")
		require.Equal(t, []time.Duration{undoing, undoing}, given, "each step has a time of its own")
		require.Equal(t, 2*undoing, time.Since(began))
	})
}

func TestARunIsInterruptedOnlyWhereItWasStopped(t *testing.T) {
	failed := errors.New("phase stack: step install: vault did not come")
	for name, c := range map[string]struct {
		cause              error
		stopped, concluded bool
		then               bool // it was stopped while it was looked at what it had left
		want               bool
	}{
		"it came to its end":                    {},
		"a step failed":                         {cause: failed, concluded: true},
		"a step failed, and the look was ended": {cause: failed, concluded: true, then: true},
		"it was stopped in a phase":             {cause: context.Canceled, concluded: true, stopped: true, want: true},
		"it was stopped before the first phase": {cause: context.Canceled, stopped: true, want: true},
		"the shop did not come":                 {cause: failed},
		"its last look was ended":               {cause: context.Canceled, then: true, concluded: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := broken(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if c.stopped {
				stop()
			}
			if c.concluded {
				r.early.whole = time.Nanosecond
				phases := c.cause
				if name == "its last look was ended" {
					phases = nil
				}
				_ = r.conclude(ctx, phases, func() error {
					if c.then {
						stop()
					}
					return nil
				}, 0) // its error is not what is looked at here
			}
			require.NoError(t, r.finish(ctx, c.cause))
			run, err := r.folder.Run()
			require.NoError(t, err)
			require.Equal(t, c.want, run.Interrupted)
			if c.cause == nil {
				require.Empty(t, run.Error)
			} else {
				require.Equal(t, c.cause.Error(), run.Error, "its own words are kept")
			}
		})
	}
}
