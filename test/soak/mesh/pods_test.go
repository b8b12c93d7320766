package mesh

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy"
	"meshsim.dev/meshsim/test/loopmesh"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// The application's ports.
const (
	portWeb    = 8080
	portOpaque = 9000
)

// How a pod ends. Others learn that it takes no more within leaves; then its
// proxy tells the clients of now, and the application ends after what they may
// still have sent.
const (
	leaves  = 300 * time.Millisecond
	lingers = 1500 * time.Millisecond
	ends    = 20 * time.Second
)

// cluster is the pods of one service and of its clients.
type cluster struct {
	t           *testing.T
	mesh        *loopmesh.Mesh
	web, opaque netip.AddrPort // the service

	mu      sync.Mutex
	started int
	ready   []*pod // the service's endpoints
	ending  sync.WaitGroup
}

// pod is one proxy with what it stands beside.
type pod struct {
	loopmesh.Pod
	app  *echo.Server // nil for a client
	stop context.CancelFunc
	done chan error
}

func newCluster(t *testing.T, renewal time.Duration) *cluster {
	m, err := loopmesh.Start(loopmesh.Options{
		Dir: t.TempDir(), Life: renewal * 10 / 7, // a proxy renews at 70 %
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(t, err)
	return &cluster{
		t: t, mesh: m,
		web: netip.MustParseAddrPort("10.96.0.1:80"), opaque: netip.MustParseAddrPort("10.96.0.2:9000"),
	}
}

// The addresses that clients dial from.
func (c *cluster) fromWeb() netip.Addr    { return c.mesh.Addr(1, 1) }
func (c *cluster) fromOpaque() netip.Addr { return c.mesh.Addr(1, 2) }

func (c *cluster) next(name string) loopmesh.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.started
	c.started++
	ip := c.mesh.Addr(byte(10+n/250), byte(n%250+1))
	return loopmesh.Pod{
		Name: name, IP: ip, Policy: policy.AllAuthenticated, App: netip.AddrPortFrom(ip, portWeb),
		Dials: map[netip.Addr]netip.AddrPort{
			c.fromWeb(): c.web, c.fromOpaque(): c.opaque,
			c.fromSteadyWeb(): steadyWeb, c.fromSteadyOpaque(): steadyOpaque,
		},
	}
}

// server starts a pod of the service; add makes it an endpoint.
func (c *cluster) server() *pod {
	p := &pod{Pod: c.next("server")}
	web, err := net.Listen("tcp4", p.App.String())
	require.NoError(c.t, err)
	opaque, err := net.Listen("tcp4", netip.AddrPortFrom(p.IP, portOpaque).String())
	require.NoError(c.t, err)
	p.app = echo.Start(web, opaque)
	c.startProxy(p)
	return p
}

func (c *cluster) client() *pod {
	p := &pod{Pod: c.next("client")}
	c.startProxy(p)
	return p
}

func (c *cluster) startProxy(p *pod) {
	env, err := c.mesh.Environment(p.Pod)
	require.NoError(c.t, err)
	config, err := loopmesh.Config(func(name string) string { return env[name] })
	require.NoError(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop, p.done = cancel, make(chan error, 1)
	go func() { p.done <- proxy.Run(ctx, config, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	ready, cancel := context.WithTimeout(context.Background(), ends)
	defer cancel()
	require.NoError(c.t, p.AwaitReady(ready))
}

// change makes new endpoints of the old and tells all proxies.
func (c *cluster) change(f func([]*pod) []*pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready = f(c.ready)
	web := &meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Namespace: loopmesh.Namespace, Service: "web"}
	opaque := &meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Namespace: loopmesh.Namespace, Service: "opaque", Opaque: true}
	for _, p := range c.ready {
		web.Endpoints = append(web.Endpoints, p.Endpoint())
		opaque.Endpoints = append(opaque.Endpoints, p.OpaqueEndpoint(portOpaque))
	}
	c.mesh.Set(c.web, web)
	c.mesh.Set(c.opaque, opaque)
}

func (c *cluster) add(p *pod) {
	c.change(func(all []*pod) []*pod { return append(all, p) })
}

func (c *cluster) remove(p *pod) {
	c.change(func(all []*pod) []*pod { return slices.DeleteFunc(all, func(x *pod) bool { return x == p }) })
}

// replace starts a pod in the place of another, which ends by and by.
func (c *cluster) replace(old *pod) *pod {
	fresh := c.server()
	c.add(fresh)
	c.remove(old)
	c.ending.Go(func() { c.end(old) })
	return fresh
}

// end is what becomes of a pod that is deleted.
func (c *cluster) end(p *pod) {
	ctx, cancel := context.WithTimeout(context.Background(), ends)
	defer cancel()
	if p.app != nil {
		for _, wait := range []time.Duration{leaves, lingers} {
			time.Sleep(wait)
			if err := p.Drain(ctx); err != nil {
				c.t.Errorf("drain %s: %v", p.IP, err)
			}
		}
		p.judge(c.t)
		if err := p.app.Shutdown(ctx); err != nil {
			c.t.Errorf("the application of %s did not end by itself: %v", p.IP, err)
		}
	}
	p.stop()
	if err := <-p.done; err != nil {
		c.t.Errorf("the proxy of %s: %v", p.IP, err)
	}
}

// metrics are what the proxy tells of itself.
func (p *pod) metrics(t *testing.T) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: ends}
	res, err := client.Get("http://" + p.Admin().String() + "/metrics")
	if err != nil {
		t.Errorf("read the metrics of %s: %v", p.IP, err)
		return ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("read the metrics of %s: %s %v", p.IP, res.Status, err)
	}
	return string(text)
}

// number is a metric without labels.
func number(t *testing.T, metrics, name string) float64 {
	t.Helper()
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return n
		}
	}
	require.Failf(t, "no such metric", "%s in %s", name, metrics)
	return 0
}

// judge holds that the rules let in by themselves all that came.
func (p *pod) judge(t *testing.T) map[string]bool {
	by, refused := admitted(p.metrics(t))
	if refused || by["localhost"] {
		t.Errorf("the rules of %s would have refused a client: let in by %v, refused %v", p.IP, by, refused)
	}
	return by
}
