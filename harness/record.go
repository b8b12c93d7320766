package harness

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/results"
)

// recorder stamps everything that is seen with the run's one clock and the
// phase that it falls in, and passes it to the run folder.
type recorder struct {
	folder *results.Folder
	begin  time.Time

	mu     sync.Mutex
	marks  []mark                      // ascending
	sent   atomic.Int64                // requests that have left and been recorded
	marked atomic.Pointer[func(int64)] // called where a phase or a step begins or ends
	broken error                       // the first write that failed; the run cannot be judged without its record
}

// mark is where a phase begins, or the scale changes within one.
type mark struct {
	at    int64
	phase string
	scale float64
}

func newRecorder(folder *results.Folder) *recorder {
	return &recorder{folder: folder, begin: time.Now()}
}

// now is nanoseconds since the run's start, on the monotonic clock.
func (r *recorder) now() int64 { return int64(time.Since(r.begin)) }

// enter begins a phase. Requests scheduled from now on belong to it.
func (r *recorder) enter(phase string, scale float64) {
	at := r.now()
	r.foresee(at, phase, scale)
	r.begun(at, phase)
}

// foresee has a phase begin, or its scale change, at an instant that has not
// passed.
func (r *recorder) foresee(at int64, phase string, scale float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark{at, phase, scale})
}

// begun notes the begin of a phase that was foreseen.
func (r *recorder) begun(at int64, phase string) {
	r.add(results.Event{At: at, Kind: results.PhaseBegin, Name: phase, Phase: phase})
}

func (r *recorder) leave(phase string) {
	r.event(results.Event{Kind: results.PhaseEnd, Name: phase})
}

// PhaseAt names the phase in force at an instant of the run, "" before the first.
func (r *recorder) PhaseAt(at int64) string { return r.markAt(at).phase }

// ScaleAt returns the scale in force at an instant of the run, 0 before the
// first phase.
func (r *recorder) ScaleAt(at int64) float64 { return r.markAt(at).scale }

func (r *recorder) markAt(at int64) mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range slices.Backward(r.marks) {
		if m.at <= at {
			return m
		}
	}
	return mark{}
}

// event stamps e with now and its phase.
func (r *recorder) event(e results.Event) {
	r.eventAt(r.now(), e)
}

// eventAt stamps e with an instant that has passed, and its phase.
func (r *recorder) eventAt(at int64, e results.Event) {
	e.At, e.Phase = at, r.PhaseAt(at)
	r.add(e)
}

// at is a time of day as nanoseconds since the run's start.
func (r *recorder) at(t time.Time) int64 { return int64(t.Sub(r.begin.Round(0))) }

// onMark has fn called with the instant, wherever a phase or a step begins or ends.
func (r *recorder) onMark(fn func(at int64)) { r.marked.Store(&fn) }

func (r *recorder) add(e results.Event) {
	r.keep(r.folder.AddEvent(e))
	switch e.Kind {
	case results.PhaseBegin, results.PhaseEnd, results.StepBegin, results.StepEnd:
		if fn := r.marked.Load(); fn != nil {
			(*fn)(e.At)
		}
	}
}

func (r *recorder) request(q results.Request) {
	if q.Sent > 0 {
		r.sent.Add(1)
	}
	r.keep(r.folder.AddRequest(q))
}

// Note implements steps.Recorder.
func (r *recorder) Note(detail string) {
	r.event(results.Event{Kind: results.Note, Name: detail})
}

// Warn implements steps.Recorder.
func (r *recorder) Warn(what, detail string) {
	r.event(results.Event{Kind: results.Warning, Name: what, Detail: detail})
}

// Probe implements steps.Recorder.
func (r *recorder) Probe(name string, data any) error {
	at := r.now()
	p, err := results.NewProbe(at, name, r.PhaseAt(at), data)
	if err != nil {
		return err
	}
	return r.folder.AddProbe(p)
}

func (r *recorder) keep(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = err
	}
}

func (r *recorder) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}
