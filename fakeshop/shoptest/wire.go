package shoptest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"sync"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

// ErrLost is a call or a statement whose answer never came: whether it was done
// cannot be told from it.
var ErrLost = fail.At("somewhere", "calling", fail.New(codes.Unavailable, "", "connection reset"))

// Fate is what happens at a step, which is a call between services or a
// statement in a database.
type Fate int

// The fates. A crash takes along whatever the same attempt would do next.
const (
	Done Fate = iota
	LostBefore
	LostAfter
	CrashBefore
	CrashAfter
)

func (f Fate) String() string {
	return [...]string{"done", "lost before", "lost after", "crash before", "crash after"}[f]
}

// Wire is between all services and databases of a World. It counts the steps
// of each kind for each order, and lets fate decide on each.
type Wire struct {
	mu    sync.Mutex
	fate  func(order, step string, nth int) Fate
	count map[[2]string]int
	steps []string // every step so far
}

// NewWire has no fates yet: everything is done.
func NewWire() *Wire { return &Wire{count: map[[2]string]int{}} }

// Decide sets who decides on each step from now on; nth counts the steps of
// this name for this order, from 0. nil is everything done.
func (w *Wire) Decide(fate func(order, step string, nth int) Fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fate = fate
}

// Steps are all steps so far, by name, and Count those of one name.
func (w *Wire) Steps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.steps...)
}

// Count is how often a step was begun.
func (w *Wire) Count(step string) (n int) {
	for _, s := range w.Steps() {
		if s == step {
			n++
		}
	}
	return n
}

// attempt is what one process does for one request; it can crash.
type attempt struct {
	mu      sync.Mutex
	crashed bool
}

type attemptKey struct{}

// Attempt begins an attempt: what is done with the context it returns crashes
// as one.
func Attempt(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, &attempt{})
}

func (a *attempt) dead() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.crashed
}

func (a *attempt) crash() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.crashed = true
}

// around does a step for an order, or what its fate makes of it.
func (w *Wire) around(ctx context.Context, order, step string, do func() error) error {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	if a.dead() {
		return ErrLost
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fate := w.meet(order, step)
	switch fate {
	case CrashBefore:
		a.crash()
		return ErrLost
	case LostBefore:
		return ErrLost
	}
	err := do()
	switch fate {
	case CrashAfter:
		a.crash()
		return ErrLost
	case LostAfter:
		if err == nil {
			return ErrLost
		}
	}
	return err
}

func (w *Wire) meet(order, step string) Fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, step)
	key := [2]string{order, step}
	nth := w.count[key]
	w.count[key]++
	if w.fate == nil {
		return Done
	}
	return w.fate(order, step, nth)
}

// Random decides by chance, and the same for the same seed, order, step and
// count, however the steps of different orders are mixed in time.
func Random(seed uint64, rate float64) func(order, step string, nth int) Fate {
	return func(order, step string, nth int) Fate {
		h := fnv.New64a()
		_ = binary.Write(h, binary.LittleEndian, seed)
		_, _ = io.WriteString(h, fmt.Sprintf("%s %s %d", order, step, nth))
		x := mix(h.Sum64())
		if float64(x>>11)/(1<<53) >= rate {
			return Done
		}
		return LostBefore + Fate(mix(x)%4)
	}
}

// mix spreads bits (SplitMix64's finisher).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
