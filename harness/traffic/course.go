package traffic

import (
	"sync"
	"time"

	"github.com/bojand/ghz/load"
)

// course is one schedule that several runs of ghz send by turns, each a leg.
type course struct {
	pacer *pacer
	legs  uint64 // calls of each

	mu    sync.Mutex
	moved *sync.Cond
	done  uint64 // calls paced
	over  bool
}

func newCourse(p *pacer, legs uint64) *course {
	c := &course{pacer: p, legs: legs}
	c.moved = sync.NewCond(&c.mu)
	return c
}

// lead is how many calls before its turn a leg is made ready.
func (c *course) lead() uint64 { return c.legs / 20 }

// await returns when the leg that begins with a call should be made ready, and
// false when there is nothing more to send.
func (c *course) await(first uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over && c.done+c.lead() < first {
		c.moved.Wait()
	}
	return !c.over || first == 0
}

// legPacer paces one leg.
type legPacer struct {
	course    *course
	next, end uint64
}

var _ load.Pacer = (*legPacer)(nil)

// Pace waits for the leg's turn and for the next call's instant.
func (l *legPacer) Pace(elapsed time.Duration, hits uint64) (wait time.Duration, stop bool) {
	if l.next == l.end || !l.course.turn(l.next) {
		return 0, true
	}
	wait, stop = l.course.pacer.Pace(elapsed, hits)
	l.next++
	l.course.went(l.next, stop)
	return wait, stop
}

// Rate implements load.Pacer.
func (l *legPacer) Rate(elapsed time.Duration) float64 { return l.course.pacer.Rate(elapsed) }

// turn waits until all calls before n are paced; false when there are no more.
func (c *course) turn(n uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over && c.done < n {
		c.moved.Wait()
	}
	return !c.over
}

// went notes that all calls before n are paced.
func (c *course) went(n uint64, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.over = n, c.over || over
	if over || n%c.legs == 0 || (n+c.lead())%c.legs == 0 {
		c.moved.Broadcast()
	}
}
