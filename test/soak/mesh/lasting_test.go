package mesh

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/test/loopmesh"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// What lasts is told apart from the rest of the traffic.
const (
	oneConnection echo.Protocol = "one TCP connection"
	oneStream     echo.Protocol = "one gRPC stream"
)

// The addresses of the one server that is never replaced.
var (
	steadyWeb    = netip.MustParseAddrPort("10.96.0.3:80")
	steadyOpaque = netip.MustParseAddrPort("10.96.0.4:9000")
)

func (c *cluster) fromSteadyWeb() netip.Addr    { return c.mesh.Addr(1, 3) }
func (c *cluster) fromSteadyOpaque() netip.Addr { return c.mesh.Addr(1, 4) }

// lasting is one connection and one stream that go on while everything changes.
type lasting struct {
	stop chan struct{}
	wg   sync.WaitGroup
	all  map[echo.Protocol]*echo.Lasting

	mu   sync.Mutex
	said map[echo.Protocol]int
}

// last opens them by the proxy of one pod to another and talks until end is called.
func (c *cluster) last(from, to *pod, b *book) *lasting {
	c.mesh.Set(steadyWeb, &meshapi.Destinations{
		Kind: meshapi.Destinations_SERVICE, Namespace: loopmesh.Namespace, Service: "steady", Endpoints: []*meshapi.Endpoint{to.Endpoint()},
	})
	c.mesh.Set(steadyOpaque, &meshapi.Destinations{
		Kind: meshapi.Destinations_SERVICE, Namespace: loopmesh.Namespace, Service: "steady", Opaque: true,
		Endpoints: []*meshapi.Endpoint{to.OpaqueEndpoint(portOpaque)},
	})
	x := &lasting{stop: make(chan struct{}), all: map[echo.Protocol]*echo.Lasting{}, said: map[echo.Protocol]int{}}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for _, s := range []struct {
		name, protocol echo.Protocol
		from           netip.Addr
	}{{oneConnection, echo.TCP, c.fromSteadyOpaque()}, {oneStream, echo.Stream, c.fromSteadyWeb()}} {
		open, err := echo.Open(ctx, s.protocol, func(ctx context.Context) (net.Conn, error) { return from.Dial(ctx, s.from) })
		require.NoError(c.t, err)
		x.all[s.name] = open
		x.wg.Go(func() {
			for x.say(s.name, open, b) {
			}
		})
	}
	return x
}

// say sends one message, and says whether there is to be another.
func (x *lasting) say(name echo.Protocol, open *echo.Lasting, b *book) bool {
	select {
	case <-x.stop:
		return false
	case <-time.After(betweenAny):
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	begin := time.Now()
	err := open.Call(ctx)
	b.note(name, time.Since(begin), err)
	if err != nil {
		return false // it is never opened again
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said[name]++
	return true
}

// end holds that both have lasted.
func (x *lasting) end(t *testing.T, took time.Duration) {
	t.Helper()
	close(x.stop)
	x.wg.Wait()
	for name, open := range x.all {
		require.NoError(t, open.End(), name)
		require.Greater(t, x.said[name], int(took.Seconds()), "%s: messages in %s", name, took)
	}
	t.Logf("%s: messages of what was opened once: %v", took.Round(time.Second), x.said)
}
