package destination

import (
	"maps"
	"sync"
)

// hub tells subscribers that one of the keys they depend on has changed.
type hub struct {
	mu   sync.Mutex
	subs map[string]map[*subscription]struct{}
}

// subscription is one subscriber's set of keys. Its channel holds one pending
// notice: what changed is looked up when it is taken.
type subscription struct {
	changed chan struct{}
	keys    map[string]struct{}
}

// holds says whether s depends on just these keys already.
func (s *subscription) holds(keys map[string]struct{}) bool { return maps.Equal(s.keys, keys) }

func newHub() *hub { return &hub{subs: map[string]map[*subscription]struct{}{}} }

func (h *hub) subscribe() *subscription {
	return &subscription{changed: make(chan struct{}, 1), keys: map[string]struct{}{}}
}

// want sets the keys that s depends on from now on.
func (h *hub) want(s *subscription, keys map[string]struct{}) {
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

func (h *hub) drop(s *subscription, key string) {
	delete(h.subs[key], s)
	if len(h.subs[key]) == 0 {
		delete(h.subs, key)
	}
}

func (h *hub) unsubscribe(s *subscription) { h.want(s, nil) }

func (h *hub) publish(keys ...string) {
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
