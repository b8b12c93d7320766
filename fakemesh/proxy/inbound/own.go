package inbound

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/detect"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/relay"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// ownDetect is how long the first bytes for a server of the proxy's own are waited
// for, as in Linkerd; what is slower is taken for HTTP.
const ownDetect = time.Second

// ServeOwn hands a connection over to a server of the proxy's own, at addr, whose
// handler is a Guard. TLS that is meant for this proxy ends here: a client that
// dials by its own proxy shows who it is. Other TLS is for nobody.
func (i *Inbound) ServeOwn(raw net.Conn, addr netip.AddrPort, server *serve.Server) {
	c := &client{
		dst: addr, who: policy.Client{Addr: tcp.Remote(raw)},
		tls: metrics.TLSNoIdentity, noReason: metrics.ReasonNotFromRemote,
	}
	if c.who.Addr.IsLoopback() {
		c.noReason = metrics.ReasonLoopback
	}
	conn := detect.NewConn(raw)
	p, _, err := conn.Detect(ownDetect)
	if err != nil {
		raw.Close()
		return
	}
	if p != detect.TLS {
		server.Serve(conn, c)
		return
	}
	secured, ours, err := accept(conn, i.Credentials)
	switch {
	case !ours:
		err = errNotForUs
	case err == nil:
		c.who.Identity, err = meshtls.PeerName(secured.ConnectionState())
	}
	if err != nil {
		i.Log.Info("TLS to the proxy itself failed", "client", c.who.Addr, "port", addr.Port(), "error", err)
		conn.Close()
		return
	}
	c.tls, c.noReason = metrics.TLSTrue, ""
	server.Serve(secured, c)
}

// Guard is the pod's policy before what a server of the proxy's own does. Its
// connections come by ServeOwn.
func (i *Inbound) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := serve.Meta(r.Context()).(*client)
		if !ok {
			http.Error(w, "no destination", http.StatusInternalServerError)
			return
		}
		d := i.rules(c).Request(c.who, r)
		peer := c.peer()
		peer.Srv, peer.Authz = d.Server, d.Authz
		if e := i.judge(&d, &peer); e != nil {
			i.Metrics.Error(metrics.Inbound, e.Kind).Inc()
			relay.Write(w, r, e, false)
			return
		}
		next.ServeHTTP(w, r)
	})
}
