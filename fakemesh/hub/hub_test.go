package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/cache"
)

// shelf is a made-up answer with what it depends on.
type shelf struct {
	mu    sync.Mutex
	value int
	keys  []string
}

func (s *shelf) put(value int, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.keys = value, keys
}

func (s *shelf) look() (int, Keys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := Keys{}
	for _, k := range s.keys {
		keys.Add(k)
	}
	return s.value, keys
}

func equal(a, b int) bool { return a == b }

func TestAFollowerIsToldOfWhatChangesItsAnswer(t *testing.T) {
	h, s := New(), &shelf{value: 1, keys: []string{"a"}}
	ctx, cancel := context.WithCancel(context.Background())
	got, ended := make(chan int), make(chan error)
	go func() {
		ended <- Follow(ctx, h, s.look, equal, func(v int) error { got <- v; return nil })
	}()
	require.Equal(t, 1, <-got)

	s.put(2, "b")
	h.Publish("other")
	select {
	case v := <-got:
		t.Fatalf("told %d though nothing it depends on had changed", v)
	case <-time.After(50 * time.Millisecond):
	}
	h.Publish("a")
	require.Equal(t, 2, <-got)

	s.put(3, "b")
	h.Publish("b", "b", "b")
	require.Equal(t, 3, <-got)
	h.Publish("b") // the same answer is not sent again
	s.put(4, "b")
	h.Publish("b")
	require.Equal(t, 4, <-got)

	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.True(t, h.Empty(), "nothing is kept of a follower that left")
}

func TestAFollowerEndsWhenItCannotBeTold(t *testing.T) {
	gone := errors.New("gone")
	err := Follow(t.Context(), New(), (&shelf{}).look, equal, func(int) error { return gone })
	require.ErrorIs(t, err, gone)
}

func TestObjectsAreToldByTheirKeysOfBeforeAndAfter(t *testing.T) {
	h := New()
	var told []string
	handler := h.Handler(func(obj any) []string {
		name, _ := obj.(string)
		told = append(told, name)
		return []string{name}
	})
	handler.OnAdd("a", false)
	handler.OnUpdate("a", "b")
	handler.OnDelete(cache.DeletedFinalStateUnknown{Key: "x", Obj: "b"})
	require.Equal(t, []string{"a", "a", "b", "b"}, told)
}
