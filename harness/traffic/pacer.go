package traffic

import (
	"sync"
	"time"

	"github.com/bojand/ghz/load"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"meshsim.dev/meshsim/results"
)

// pacer tells a sender when to send. It keeps its own clock and its own count,
// so that the schedule does not depend on how the sender counts, and waits
// itself, never longer than a grain, so that a stop or a new scale is soon heeded.
// It paces one sender, which calls Pace from one goroutine.
type pacer struct {
	schedule schedule
	desk     *desk
	began    time.Time     // the schedule's zero
	stop     chan struct{} // closed to end the schedule
	stopped  func() time.Duration
	alarm    *alarm
}

// promptRate is up to how many requests a second each has an alarm of its own. At
// more, alarms cost half as much CPU again; Go's timers, up to a millisecond late,
// send what is due meanwhile together.
const promptRate = 1500

var (
	_ vegeta.Pacer = (*pacer)(nil)
	_ load.Pacer   = (*pacer)(nil)
)

// Pace returns when the next request is due. It never asks for a wait.
func (p *pacer) Pace(time.Duration, uint64) (wait time.Duration, stop bool) {
	for {
		now := time.Since(p.began)
		a, ok := p.schedule.next(now)
		if !ok { // nothing more in this grain
			a.at = grainAfter(now)
		}
		if !p.until(a.at) {
			p.close(a, ok)
			return 0, true
		}
		if ok {
			p.desk.open(a)
			return 0, false
		}
	}
}

// Rate returns the requests a second that are meant at an instant.
func (p *pacer) Rate(elapsed time.Duration) float64 { return p.schedule.Rate(elapsed) }

// until waits for an instant of the schedule; false when stopped before.
func (p *pacer) until(at time.Duration) bool {
	if wait := at - time.Since(p.began); wait > 0 {
		if p.schedule.Rate(at) > promptRate {
			time.Sleep(wait)
		} else {
			p.alarm.until(p.began.Add(at))
		}
	}
	select {
	case <-p.stop:
		return false
	default:
		return true
	}
}

// close accounts for what was due before the stop and never left, because the
// sender was behind: a, if it is an arrival, and those after it.
func (p *pacer) close(a arrival, ok bool) {
	end := p.stopped()
	for {
		if ok && a.at <= end {
			p.desk.skip(a)
		}
		if a.at > end {
			return
		}
		a, ok = p.schedule.next(end)
		if !ok {
			return
		}
	}
}

// desk hands out the scheduled requests of one sender and takes their results
// back, each once.
type desk struct {
	proto  string
	offset time.Duration // of the schedule's zero from the run's start
	begin  time.Time     // the run's start
	book   *shelf

	mu      sync.Mutex
	opened  uint64 // requests scheduled
	taken   uint64 // requests handed to the sender
	pending map[uint64]*results.Request
}

// at is an instant as the time since the run's start.
func (d *desk) at(t time.Time) time.Duration { return t.Sub(d.begin) }

func (d *desk) now() time.Duration { return d.at(time.Now()) }

// open schedules the next request and returns its number.
func (d *desk) open(a arrival) (n uint64) {
	r := &results.Request{Seq: a.seq, Scheduled: int64(d.offset + a.at), Route: a.route, Proto: d.proto}
	r.Phase = d.book.schedule(r.Scheduled)
	d.mu.Lock()
	defer d.mu.Unlock()
	n = d.opened
	d.pending[n] = r
	d.opened++
	return n
}

// skip schedules the next request and gives it up at once. Those opened before
// it may still be on their way to the sender, and stay what they are.
func (d *desk) skip(a arrival) {
	d.giveUp(d.open(a), "the sender was behind its schedule when it was stopped")
}

// seq is the index of request n, 0 when it is settled.
func (d *desk) seq(n uint64) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.pending[n]; ok {
		return r.Seq
	}
	return 0
}

// route is that of request n, "" when it is settled.
func (d *desk) route(n uint64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.pending[n]; ok {
		return r.Route
	}
	return ""
}

// take hands the oldest request that nobody has taken to the sender.
func (d *desk) take() (n uint64, r results.Request, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.taken == d.opened {
		return 0, results.Request{}, false
	}
	n = d.taken
	d.taken++
	return n, *d.pending[n], true
}

// claim hands request n to the sender; for senders that count by themselves.
func (d *desk) claim(n uint64) (r results.Request, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, found := d.pending[n]; found && n < d.opened {
		d.taken = max(d.taken, n+1)
		return *p, true
	}
	return results.Request{}, false
}

// finish settles request n with what came of it. Only the first time counts.
func (d *desk) finish(n uint64, sent, done time.Duration, orderID string, j judgement) {
	r := d.remove(n)
	if r == nil {
		return
	}
	r.Sent, r.Done, r.OrderID = int64(sent), int64(done), orderID
	r.Status, r.Outcome, r.Class, r.Hop, r.Pod, r.Error = j.Status, j.Outcome, j.Class, j.Hop, j.Pod, j.Error
	r.Hops = j.Hops
	d.book.close(*r)
}

// giveUp settles request n as never sent.
func (d *desk) giveUp(n uint64, why string) {
	if r := d.remove(n); r != nil {
		r.Outcome, r.Class, r.Error = results.Undispatched, results.ClassSender, why
		d.book.close(*r)
	}
}

func (d *desk) remove(n uint64) *results.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.pending[n]
	delete(d.pending, n)
	return r
}

// sweep settles what the sender never brought back, once it has ended.
func (d *desk) sweep() {
	d.mu.Lock()
	left := make([]uint64, 0, len(d.pending))
	for n := range d.pending {
		left = append(left, n)
	}
	d.mu.Unlock()
	for _, n := range left {
		d.giveUp(n, "the sender ended without it")
	}
}
