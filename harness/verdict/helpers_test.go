package verdict

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// story is a run to be judged: by default one judged phase "soak" that ended
// well, without requests or probes.
type story struct {
	run      results.Run
	requests []results.Request
	events   []results.Event
	probes   []results.Probe
	cutOff   bool // run.json gets no end
}

func newStory(budgets ...string) *story {
	return &story{run: results.Run{
		ID: "20260504T093000Z-demo", Scenario: "demo", Mesh: "fakemesh", Seed: 7, Budgets: budgets,
		StartedAt: time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC),
		Traffic:   results.Traffic{MaxLate: 50 * time.Millisecond, MaxLateShare: 0.01},
		Phases:    []results.PhasePlan{{Name: "soak", Scale: 1, Judged: true, MinRequests: 6000}},
		Shop:      results.Shop{Drain: true, DrainSeconds: 5},
	}}
}

// newQuietStory is a run that has no judged phase: only probes are judged.
func newQuietStory(budgets ...string) *story {
	s := newStory(budgets...)
	s.run.Phases[0].Judged = false
	return s.served("soak", 6)
}

// served adds n good requests of 5 ms to a phase, 10 ms apart.
func (s *story) served(phase string, n int) *story {
	for range n {
		at := int64(len(s.requests)) * int64(10*time.Millisecond)
		s.requests = append(s.requests, results.Request{
			Seq: uint64(len(s.requests) + 1), Scheduled: at, Sent: at, Done: at + int64(5*time.Millisecond),
			Phase: phase, Route: "browse", Proto: "http", Status: 200, Outcome: results.OK,
		})
	}
	return s
}

// each changes every nth request, beginning with the first.
func (s *story) each(nth int, change func(*results.Request)) *story {
	for i := 0; i < len(s.requests); i += nth {
		change(&s.requests[i])
	}
	return s
}

// first changes the first n requests.
func (s *story) first(n int, change func(*results.Request)) *story {
	for i := range s.requests[:n] {
		change(&s.requests[i])
	}
	return s
}

func failWith(class string) func(*results.Request) {
	return func(r *results.Request) { r.Outcome, r.Status, r.Class = results.Failed, 502, class }
}

func (s *story) event(at time.Duration, kind, name string, fields ...string) *story {
	e := results.Event{At: int64(at), Kind: kind, Name: name, Fields: map[string]string{}}
	for i := 0; i+1 < len(fields); i += 2 {
		e.Fields[fields[i]] = fields[i+1]
	}
	s.events = append(s.events, e)
	return s
}

func (s *story) pod(at time.Duration, name, service, state string) *story {
	return s.event(at, results.Pod, name, results.FieldService, service, results.FieldState, state)
}

func (s *story) probe(name string, data any) *story {
	p, err := results.NewProbe(int64(time.Hour), name, "soak", data)
	if err != nil {
		panic(fmt.Sprint("the test's own data: ", err))
	}
	s.probes = append(s.probes, p)
	return s
}

func (s *story) write(t testing.TB) *results.Folder {
	t.Helper()
	f, err := results.Create(t.TempDir(), s.run.ID)
	require.NoError(t, err)
	for _, r := range s.requests {
		require.NoError(t, f.AddRequest(r))
	}
	for _, e := range s.events {
		require.NoError(t, f.AddEvent(e))
	}
	for _, p := range s.probes {
		require.NoError(t, f.AddProbe(p))
	}
	if !s.cutOff {
		s.run.EndedAt = s.run.StartedAt.Add(time.Hour)
	}
	require.NoError(t, f.WriteRun(s.run))
	require.NoError(t, f.Close())
	return f
}

func (s *story) judge(t testing.TB) results.Verdict {
	t.Helper()
	v, err := Evaluate(s.write(t))
	require.NoError(t, err)
	return v
}

// ptr returns a pointer to v.
func ptr[T any](v T) *T { return &v }
