package inbound

import (
	"net"
	"sync"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// SetPolicy goes by other rules from now on. Requests that are under way go on,
// and so do connections that are let in still; others are cut off.
func (i *Inbound) SetPolicy(p *policy.Inbound) {
	i.policy.Store(p)
	for _, s := range i.sessions.all() {
		d := p.Port(s.client.dst.Port()).Connection(s.client.who)
		if d.Allowed || !i.sessions.end(s) {
			continue
		}
		peer := s.client.peer()
		peer.Srv = d.Server
		i.Metrics.Authz("inbound_tcp_authz_terminate_total", &peer, policy.Ref{}).Inc()
		i.Log.Info("connection terminated, as the policy has changed", "client", s.client.who.Addr,
			"identity", s.client.who.Identity, "port", s.client.dst.Port(), "server", d.Server.Name)
		// Saying goodbye by TLS may take a while where nobody reads.
		go s.conn.Close()
	}
}

// session is a connection of bytes that are no HTTP.
type session struct {
	client *client
	conn   net.Conn
}

// sessions are those that are open. One begins before it is judged: a policy
// that comes meanwhile finds it here, or is the one that it is judged by.
type sessions struct {
	mu   sync.Mutex
	open map[*session]struct{}
}

func (s *sessions) begin(c *client, conn net.Conn) *session {
	x := &session{c, conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*session]struct{}{}
	}
	s.open[x] = struct{}{}
	return x
}

// end forgets a session and says whether it was there still.
func (s *sessions) end(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.open[x]
	delete(s.open, x)
	return was
}

func (s *sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.open))
	for x := range s.open {
		all = append(all, x)
	}
	return all
}
