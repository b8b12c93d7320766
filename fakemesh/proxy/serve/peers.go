package serve

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// aftermath is how long a request counts on that its client has given up.
	// HTTP/2 ends a stream with one frame and no answer: nobody says when the
	// server behind has stopped working on it. Without the pause, who resets his
	// streams at once begins work there faster than it ends.
	aftermath = 100 * time.Millisecond
	// steps are what it is waited in. Where the whole process gets no CPU for as
	// long as that, only one of them passes: what is to end has its turn between.
	steps = 10
)

// peer is one address with connections.
type peer struct {
	conns    int // the server's lock guards it
	inFlight atomic.Int64
}

// over says whether nothing is left to remember; the server's lock is held.
func (p *peer) over() bool { return p.conns == 0 && p.inFlight.Load() == 0 }

func (s *Server) join(addr netip.Addr) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[addr]
	if p == nil {
		p = &peer{}
		s.peers[addr] = p
	}
	p.conns++
	return p
}

// leave counts a connection no more. Its address is remembered for as long as a
// request of it counts: a new connection is no new share of what there is.
func (s *Server) leave(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[addr]
	if p.conns--; p.over() {
		delete(s.peers, addr)
	}
}

func (s *Server) forget(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[addr]; p != nil && p.over() {
		delete(s.peers, addr)
	}
}

// finish counts a request no more: now, or later when its client gave it up.
func (s *Server) finish(h *handed, r *http.Request) {
	if r.Context().Err() == nil || s.over() {
		s.done(h)
		return
	}
	s.later(h, steps)
}

func (s *Server) later(h *handed, left int) {
	if left == 0 {
		s.done(h)
		return
	}
	time.AfterFunc(s.Aftermath/steps, func() { s.later(h, left-1) })
}

// over says whether nothing new is taken any more.
func (s *Server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// done counts a request no more.
func (s *Server) done(h *handed) {
	s.inFlight.Add(-1)
	h.done()
}

// done counts a request of the connection no more. It may be the last that is
// left of an address whose connections have all ended.
func (h *handed) done() {
	if h.peer.inFlight.Add(-1) == 0 && h.gone.Load() {
		h.s.forget(h.addr)
	}
}
