// Package hub tells those who made something of the cluster's objects that one
// of these objects has changed.
package hub

import (
	"context"
	"maps"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"
)

// Hub tells subscribers that one of the keys they depend on has changed.
type Hub struct {
	mu   sync.Mutex
	subs map[string]map[*subscription]struct{}
}

// Keys are what an answer depends on.
type Keys map[string]struct{}

// Add puts a key in.
func (k Keys) Add(key string) { k[key] = struct{}{} }

// New makes a Hub without subscribers.
func New() *Hub { return &Hub{subs: map[string]map[*subscription]struct{}{}} }

// subscription is one subscriber's set of keys. Its channel holds one pending
// notice: what changed is looked up when it is taken.
type subscription struct {
	changed chan struct{}
	keys    Keys
}

// want sets the keys that s depends on from now on.
func (h *Hub) want(s *subscription, keys Keys) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range s.keys {
		if _, still := keys[key]; !still {
			h.drop(s, key)
		}
	}
	for key := range keys {
		of := h.subs[key]
		if of == nil {
			of = map[*subscription]struct{}{}
			h.subs[key] = of
		}
		of[s] = struct{}{}
	}
	s.keys = keys
}

func (h *Hub) drop(s *subscription, key string) {
	delete(h.subs[key], s)
	if len(h.subs[key]) == 0 {
		delete(h.subs, key)
	}
}

// Publish says that keys have changed.
func (h *Hub) Publish(keys ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		for s := range h.subs[key] {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}
}

// Empty says whether nobody follows anything.
func (h *Hub) Empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) == 0
}

// Handler publishes the keys of each object that a cache tells of. Of one that
// was changed it publishes the old keys as well.
func (h *Hub) Handler(keys func(obj any) []string) cache.ResourceEventHandler {
	publish := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		h.Publish(keys(obj)...)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    publish,
		UpdateFunc: func(old, new any) { publish(old); publish(new) },
		DeleteFunc: publish,
	}
}

// settle is how long changes are gathered before an answer is made of them.
const settle = 5 * time.Millisecond

// Follow looks, sends what it found, and does so again whenever one of the keys
// that look depends on has changed and the answer is another than the one
// before, until ctx ends or send fails.
func Follow[T any](ctx context.Context, h *Hub, look func() (T, Keys), same func(a, b T) bool, send func(T) error) error {
	s := &subscription{changed: make(chan struct{}, 1), keys: Keys{}}
	defer h.want(s, nil)
	var sent T
	for first := true; ; first = false {
		now, keys := look()
		for !maps.Equal(s.keys, keys) {
			h.want(s, keys)
			// Once more: what changed before the keys were held told nobody.
			now, keys = look()
		}
		if first || !same(sent, now) {
			if err := send(now); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
			time.Sleep(settle)
		}
	}
}
