package harness

import (
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
	marks  []mark // ascending
	scale  atomic.Pointer[float64]
	sent   atomic.Int64                // requests that have left and been recorded
	marked atomic.Pointer[func(int64)] // called where a phase or a step begins or ends
	broken error                       // the first write that failed; the run cannot be judged without its record
}

// mark is where a phase begins.
type mark struct {
	at    int64
	phase string
}

func newRecorder(folder *results.Folder) *recorder {
	r := &recorder{folder: folder, begin: time.Now()}
	r.setScale(0)
	return r
}

// now is nanoseconds since the run's start, on the monotonic clock.
func (r *recorder) now() int64 { return int64(time.Since(r.begin)) }

func (r *recorder) setScale(s float64) { r.scale.Store(&s) }
func (r *recorder) Scale() float64     { return *r.scale.Load() }

// enter begins a phase. Requests scheduled from now on belong to it.
func (r *recorder) enter(phase string, scale float64) {
	at := r.now()
	r.mu.Lock()
	r.marks = append(r.marks, mark{at, phase})
	r.mu.Unlock()
	r.setScale(scale)
	r.add(results.Event{At: at, Kind: results.PhaseBegin, Name: phase, Phase: phase})
}

func (r *recorder) leave(phase string) {
	r.event(results.Event{Kind: results.PhaseEnd, Name: phase})
}

// PhaseAt names the phase in force at an instant of the run, "" before the first.
func (r *recorder) PhaseAt(at int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.marks) - 1; i >= 0; i-- {
		if r.marks[i].at <= at {
			return r.marks[i].phase
		}
	}
	return ""
}

// event stamps e with now and its phase.
func (r *recorder) event(e results.Event) {
	e.At = r.now()
	e.Phase = r.PhaseAt(e.At)
	r.add(e)
}

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
