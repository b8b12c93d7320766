//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"meshsim.dev/meshsim/test/mesh/report"
)

// scene is a namespace of its own, what is put into it, and the rows that look
// at it. Nothing of one scene is there in the next.
type scene struct {
	name    string                                  // the namespace is mesh-conf-NAME
	prepare func(ctx context.Context, l *lab) error // nil when rows need nothing
	rows    []row
}

// row is one sentence of the contract or one failure mode.
type row struct {
	id       string
	says     string
	expected string
	within   time.Duration // 0 is rowWithin
	check    func(ctx context.Context, l *lab) (seen string, err error)
}

// namespacePrefix begins the name of every scene's namespace.
const namespacePrefix = "mesh-conf-"

const (
	prepareWithin = 3 * time.Minute
	rowWithin     = 2 * time.Minute
	cleanWithin   = 6 * time.Minute
)

// scenes are in the order in which they are played: those that change the
// control plane come last.
func scenes() []scene {
	return slices.Concat(
		planeScenes(), podScenes(), identityScenes(), metricScenes(), proxyScenes(),
		rolloutScenes(), policyScenes(), policyMistakeScenes(),
		absenceScenes(), issuerScenes(), anchorScenes(), webhookScenes(),
	)
}

// notApplicable is why a row cannot be asked of this mesh on this host.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

// play raises a scene, checks its rows and takes it away again. Rows that were
// not chosen stay unrun; a scene without a chosen row is not raised.
func (w *world) play(ctx context.Context, t *testing.T, s scene) {
	chosen := slices.DeleteFunc(slices.Clone(s.rows), func(r row) bool { return !w.chosen.MatchString(r.id) })
	if len(chosen) == 0 || ctx.Err() != nil {
		return
	}
	t.Run(s.name, func(t *testing.T) {
		l := &lab{world: w, ns: namespacePrefix + s.name, began: time.Now()}
		defer func() {
			// Also when the run was interrupted: the next scene, or whoever takes
			// the cluster next, must find the mesh as it was.
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
			defer cancel()
			if err := l.leave(clean); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}()
		unready := l.enter(ctx, s)
		for _, r := range chosen {
			t.Run(r.id, func(t *testing.T) { w.judge(ctx, t, l, r, unready) })
		}
	})
}

func (w *world) judge(ctx context.Context, t *testing.T, l *lab, r row, unready error) {
	line := report.Row{ID: r.id, Says: r.says, Expected: r.expected}
	defer func() { w.book.Set(line) }()
	within := r.within
	if within == 0 {
		within = rowWithin
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("the row took longer than %s", within))
	defer cancel()
	err := unready
	if err == nil {
		line.Seen, err = r.check(ctx, l)
	}
	why, ok := errors.AsType[notApplicable](err)
	switch {
	case ok:
		line.Seen, line.Outcome = string(why), report.NotApplicable
		t.Skipf("%s\n  not applicable: %s", r.says, why)
	case err != nil:
		line.Outcome = report.Fail
		t.Errorf("%s\n  expected: %s\n  seen: %s\n  wrong: %v", r.says, r.expected, line.Seen, err)
		if line.Seen != "" {
			line.Seen += "; "
		}
		line.Seen += err.Error()
	default:
		line.Outcome = report.Pass
		t.Logf("%s\n  seen: %s", r.says, line.Seen)
	}
}

// enter makes the scene's namespace and what is in it.
func (l *lab) enter(ctx context.Context, s scene) error {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareWithin, fmt.Errorf("the scene was not ready within %s", prepareWithin))
	defer cancel()
	if err := l.namespace(ctx, l.ns); err != nil {
		return err
	}
	if s.prepare == nil {
		return nil
	}
	if err := s.prepare(ctx, l); err != nil {
		return fmt.Errorf("prepare the scene: %w", err)
	}
	return nil
}

// leave undoes what the scene did, last first.
func (l *lab) leave(ctx context.Context) error {
	var failed []error
	for _, undo := range slices.Backward(l.undo) {
		failed = append(failed, undo(ctx))
	}
	return errors.Join(failed...)
}
