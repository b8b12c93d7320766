package loopmesh

import (
	"context"
	"sync"
)

// told is a value that those who follow it are told of, at once and whenever it
// is set.
type told[T any] struct {
	mu      sync.Mutex
	now     T
	changed chan struct{} // closed when now is another
}

func newTold[T any](first T) *told[T] {
	return &told[T]{now: first, changed: make(chan struct{})}
}

func (t *told[T]) set(now T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.now, t.changed = now, make(chan struct{})
}

func (t *told[T]) get() (T, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now, t.changed
}

// follow tells of each value until tell fails or ctx ends, which is no error.
func (t *told[T]) follow(ctx context.Context, tell func(T) error) error {
	for {
		now, changed := t.get()
		if err := tell(now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
