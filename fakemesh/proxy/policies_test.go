package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// controller is a policy controller that says what it is told to say.
type controller struct {
	meshapi.UnimplementedPolicyServer
	mu    sync.Mutex
	asked []*meshapi.WatchInboundRequest
	rules chan *meshapi.InboundRules
}

func (c *controller) WatchInbound(req *meshapi.WatchInboundRequest, stream meshapi.Policy_WatchInboundServer) error {
	c.mu.Lock()
	c.asked = append(c.asked, req)
	c.mu.Unlock()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case r := <-c.rules:
			if err := stream.Send(r); err != nil {
				return err
			}
		}
	}
}

// start serves on addr with the identity of the control plane.
func (c *controller) start(t *testing.T, w *world, addr string) (stop func(), at string) {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	require.NoError(t, err)
	creds := w.ca.Credentials(t, controllerName)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(creds.Server())))
	meshapi.RegisterPolicyServer(server, c)
	go func() { _ = server.Serve(l) }()
	return server.Stop, l.Addr().String()
}

var controllerName = meshid.ID{ServiceAccount: "linkerd-destination", Namespace: "linkerd"}.Name(ofMesh)

// uncounted counts calls where nobody looks.
func uncounted() *controlStats { return &controlStats{metrics.New(metrics.Info{}), metrics.Control{}} }

func TestAProxyFollowsTheControllerAndKeepsItsRulesWhileThatIsAway(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, remote: outside, policy: policy.AllAuthenticated, serve: web(http.HandlerFunc(answerIn))})
	vip, _ := w.service("10.96.0.1:80", p)
	client := httpClient(t, w.sidecar("client"), vip, false)
	c := &controller{rules: make(chan *meshapi.InboundRules)}
	stop, addr := c.start(t, w, "127.0.0.1:0")
	conn, err := controlConn(addr, credentials.NewTLS(w.ca.Credentials(t, identityOf("web")).Client(controllerName)), uncounted())
	require.NoError(t, err)
	defer conn.Close()
	ready := make(chan struct{})
	close(ready)
	watcher := &policies{client: meshapi.NewPolicyClient(conn), ready: ready, pod: "prod-app/web-1", log: w.log, own: policy.Defaults{
		Policy: policy.AllAuthenticated, Probes: []policy.Probe{{Port: 8081, Path: "/healthz"}, {Port: 8081, Path: "/readyz"}},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	changed := make(chan struct{}, 10)
	go func() {
		defer close(ended)
		watcher.watchInbound(ctx, func(in *policy.Inbound) { p.in.SetPolicy(in); changed <- struct{}{} })
	}()
	defer func() { cancel(); <-ended }()
	answered := func() int { t.Helper(); return get(t, client, "http://x/").StatusCode }
	require.Equal(t, http.StatusOK, answered(), "until the controller speaks, the default counts")

	rules := func(d policy.Default) *meshapi.InboundRules { return policy.Defaults{Policy: d}.Rules() }
	c.rules <- rules(policy.Deny)
	<-changed
	require.Equal(t, http.StatusForbidden, answered())
	require.Equal(t, "prod-app/web-1 all-authenticated 8081/healthz,8081/readyz",
		c.asked[0].Pod+" "+c.asked[0].DefaultPolicy+" "+c.asked[0].Probes)
	c.rules <- &meshapi.InboundRules{} // makes no sense
	c.rules <- rules(policy.Deny)
	<-changed
	require.Equal(t, http.StatusForbidden, answered())

	stop()
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, http.StatusForbidden, answered(), "what was said last counts on")
	stop, _ = c.start(t, w, addr)
	defer stop()
	c.rules <- rules(policy.AllUnauthenticated)
	<-changed
	require.Equal(t, http.StatusOK, answered())
}

func TestAProxyHearsOnlyTheControllerItself(t *testing.T) {
	w := newWorld(t)
	c := &controller{rules: make(chan *meshapi.InboundRules, 1)}
	c.rules <- policy.Defaults{Policy: policy.AllUnauthenticated}.Rules()
	stop, addr := c.start(t, w, "127.0.0.1:0")
	defer stop()
	conn, err := controlConn(addr, credentials.NewTLS(w.ca.Credentials(t, identityOf("web")).Client(identityOf("policy"))), uncounted())
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	stream, err := meshapi.NewPolicyClient(conn).WatchInbound(ctx, &meshapi.WatchInboundRequest{Pod: "prod-app/web-1"})
	if err == nil {
		_, err = stream.Recv()
	}
	require.Error(t, err)
	require.Empty(t, c.asked)
}
