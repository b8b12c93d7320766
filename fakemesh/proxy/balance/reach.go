package balance

import (
	"context"
	"slices"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// Failed ends what Pick began when no connection could be had. The endpoint gets
// no request until one can be had: it is tried in the background, after pauses
// that grow.
func (m *Member[E]) Failed() {
	s := m.set
	s.mu.Lock()
	defer s.mu.Unlock()
	m.inHand--
	if m.left || m.giveUp != nil {
		return // one of several that failed together
	}
	var ctx context.Context
	ctx, m.giveUp = context.WithCancel(context.Background())
	s.ready = slices.DeleteFunc(s.ready, func(other *Member[E]) bool { return other == m })
	go m.reach(ctx)
}

// reach tries the endpoint until it answers or ctx ends.
func (m *Member[E]) reach(ctx context.Context) {
	for pause.For(ctx, m.nextPause()) == nil {
		if m.set.reach(ctx, m.Endpoint) == nil {
			m.reached(ctx)
			return
		}
	}
}

// nextPause is how long the endpoint is left alone now: longer each time until it
// has answered a request, and not the same for all who lost it.
func (m *Member[E]) nextPause() time.Duration {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	m.failures++
	return pause.Spread(min(minBackoff<<min(m.failures-1, 10), maxBackoff))
}

func (m *Member[E]) reached(ctx context.Context) {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	if ctx.Err() == nil {
		m.comeBack()
	}
}

// comeBack gives the endpoint requests again; the set is locked.
func (m *Member[E]) comeBack() {
	if m.giveUp == nil {
		return
	}
	m.giveUp()
	m.giveUp = nil
	m.set.ready = append(m.set.ready, m)
	m.set.wake()
}

// leave ends the attempts to reach an endpoint that is none any more; the set is
// locked.
func (m *Member[E]) leave() {
	m.left = true
	if m.giveUp != nil {
		m.giveUp()
		m.giveUp = nil
	}
}
