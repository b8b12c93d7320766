package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/test/loopmesh"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// crowdSize is how many endpoints the memory of a proxy is measured with.
const crowdSize = 50

// world is all that is measured, and what it needs: an application, a pair of
// proxies in front of it, a crowd of further pods, a pair of nginx.
type world struct {
	dir         string
	mesh        *loopmesh.Mesh
	web, opaque netip.AddrPort // the application
	app         *program
	client      loopmesh.Pod
	front, back *program // the proxies of the client and of the server
	crowd       *program
	crowdPods   []loopmesh.Pod
	nginx       *nginx // nil when it is not here
}

// The addresses that the client dials from, by which its proxy knows where to.
const (
	fromWeb byte = iota + 1
	fromOpaque
	fromCrowd
)

// leafLife is Linkerd's: no renewal falls into a measurement.
const leafLife = 24 * time.Hour

// startTimeout is for all that is started to answer.
const startTimeout = 30 * time.Second

func startWorld(ctx context.Context, o options) (w *world, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "mesh-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	w = &world{dir: dir}
	defer func(begun *world) { // what is returned may be nil by then
		if err != nil {
			err = errors.Join(err, begun.close())
		}
	}(w)
	issuer := filepath.Join(dir, "mesh")
	if err := os.Mkdir(issuer, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	w.mesh, err = loopmesh.Start(loopmesh.Options{Dir: issuer, Life: leafLife, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	w.web, w.opaque = netip.AddrPortFrom(w.mesh.Addr(1, 1), 8080), netip.AddrPortFrom(w.mesh.Addr(1, 1), 9000)
	if w.app, err = startChild("the application", roleApp, task{Web: w.web.String(), Opaque: w.opaque.String()}); err != nil {
		return nil, err
	}
	if err := errors.Join(awaitListening(ctx, w.web), awaitListening(ctx, w.opaque)); err != nil {
		return nil, err
	}
	if err := w.startPods(ctx, o); err != nil {
		return nil, err
	}
	w.nginx, err = startNginx(ctx, w.mesh, o, dir, w.web, w.opaque)
	if errors.Is(err, errNoNginx) {
		o.log.Warn("nginx is not measured", "error", err)
		err = nil
	}
	return w, err
}

// startPods starts all proxies: the two that are measured each in a process of
// its own.
func (w *world) startPods(ctx context.Context, o options) error {
	service := func(n byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, n}), port)
	}
	web, opaque, crowd := service(1, 80), service(2, w.opaque.Port()), service(3, 80)
	server := loopmesh.Pod{Name: "server", IP: w.mesh.Addr(1, 1), App: w.web, Policy: policy.AllAuthenticated, Cores: o.cores}
	w.client = loopmesh.Pod{Name: "client", IP: w.mesh.Addr(2, 1), App: w.web, Policy: policy.AllAuthenticated, Cores: o.cores,
		Dials: map[netip.Addr]netip.AddrPort{w.from(fromWeb): web, w.from(fromOpaque): opaque, w.from(fromCrowd): crowd}}
	w.mesh.Set(web, destinations("web", server.Endpoint()))
	d := destinations("opaque", server.OpaqueEndpoint(w.opaque.Port()))
	d.Opaque = true
	w.mesh.Set(opaque, d)
	var all []*meshapi.Endpoint
	for i := range crowdSize {
		p := loopmesh.Pod{Name: "crowd", IP: w.mesh.Addr(4, byte(i+1)), App: w.web, Policy: policy.AllAuthenticated,
			Dials: map[netip.Addr]netip.AddrPort{w.from(fromWeb): web}}
		w.crowdPods = append(w.crowdPods, p)
		all = append(all, p.Endpoint())
	}
	w.mesh.Set(crowd, destinations("crowd", all...))
	var err error
	if w.front, err = w.startProxies(o, "front", w.client); err != nil {
		return err
	}
	if w.back, err = w.startProxies(o, "back", server); err != nil {
		return err
	}
	if w.crowd, err = w.startProxies(options{}, "crowd", w.crowdPods...); err != nil {
		return err
	}
	for _, p := range append([]loopmesh.Pod{w.client, server}, w.crowdPods...) {
		if err := p.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func destinations(service string, endpoints ...*meshapi.Endpoint) *meshapi.Destinations {
	return &meshapi.Destinations{
		Kind: meshapi.Destinations_SERVICE, Namespace: loopmesh.Namespace, Service: service, Endpoints: endpoints,
	}
}

func (w *world) from(n byte) netip.Addr { return w.mesh.Addr(5, n) }

func (w *world) startProxies(o options, name string, pods ...loopmesh.Pod) (*program, error) {
	var t task
	for _, p := range pods {
		env, err := w.mesh.Environment(p)
		if err != nil {
			return nil, err
		}
		t.Pods = append(t.Pods, env)
	}
	if o.profiles != "" {
		t.Profile = filepath.Join(o.profiles, name)
	}
	return startChild("the proxy "+name, roleProxies, t)
}

func (w *world) close() error {
	var errs []error
	for _, p := range []*program{w.front, w.back, w.crowd} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if w.nginx != nil {
		errs = append(errs, w.nginx.stop())
	}
	if w.app != nil {
		errs = append(errs, w.app.stop())
	}
	if w.mesh != nil {
		w.mesh.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// path is one way from the client to the application.
type path struct {
	name        string
	dial        func(echo.Protocol) echo.Dialer
	front, back *program // nil when there is nothing between
}

// The ways that are compared. Plain is measured twice: what the two differ by
// is what this machine's noise makes of nothing.
const (
	pathPlain = "plain"
	pathAgain = "plain again"
	pathMesh  = "fakemesh"
	pathNginx = "nginx"
)

func (w *world) paths() []path {
	plain := func(p echo.Protocol) echo.Dialer {
		if p == echo.TCP {
			return dialTo(w.opaque)
		}
		return dialTo(w.web)
	}
	all := []path{
		{name: pathPlain, dial: plain},
		{name: pathAgain, dial: plain},
		{name: pathMesh, front: w.front, back: w.back, dial: func(p echo.Protocol) echo.Dialer {
			if p == echo.TCP {
				return w.dialFrom(fromOpaque)
			}
			return w.dialFrom(fromWeb)
		}},
	}
	if w.nginx == nil {
		return all
	}
	ports := map[echo.Protocol]uint16{echo.HTTP: nginxHTTP, echo.GRPC: nginxGRPC, echo.TCP: nginxTCP}
	return append(all, path{name: pathNginx, front: w.nginx.front, back: w.nginx.back, dial: func(p echo.Protocol) echo.Dialer {
		return dialTo(netip.AddrPortFrom(w.nginx.addr, ports[p]))
	}})
}

func dialTo(addr netip.AddrPort) echo.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", addr.String())
	}
}

func (w *world) dialFrom(from byte) echo.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return w.client.Dial(ctx, w.from(from)) }
}
