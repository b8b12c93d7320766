// Package server runs one service of the shop: its REST edge, its gRPC ports
// for inside and outside, its admin port, and its end by draining.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
)

// Config says who serves where, and how it ends.
type Config struct {
	Service string
	Pod     string
	Node    string // that the pod runs on
	Version string // of the service: v1, v2, …
	// Listen addresses ("host:port"). HTTP and EdgeGRPC are for outside
	// clients and are opened only by services that have such routes.
	HTTP, EdgeGRPC, GRPC, Admin string
	// Drain is how long to serve on after the end is asked for, so that every
	// client can turn away first. 0 is careless: all is cut at once.
	Drain time.Duration
	// HardStop is when, counted from the same moment, requests still running
	// are cut.
	HardStop time.Duration
	// RequestTimeout bounds a request from outside.
	RequestTimeout time.Duration
	// Behaviour makes the service misbehave; nil is a good one.
	Behaviour *behaviour.Behaviour
	Log       *slog.Logger
	// Listen opens a port; nil is TCP. Tests give their own.
	Listen func(ctx context.Context, addr string) (net.Listener, error)
}

// App is what a service gives to be served.
type App struct {
	// REST maps patterns ("GET /api/x/{id}") to handlers; none: no HTTP port.
	REST map[string]rest.Handler
	// Register adds the gRPC service.
	Register func(grpc.ServiceRegistrar)
	// EdgeMethods are the full gRPC methods open to outside clients; none: no
	// such port.
	EdgeMethods []string
	// Ready says why the service cannot serve now, nil when it can.
	Ready func(context.Context) error
	// Close ends what works in the background, after the last request and
	// within ctx.
	Close func(ctx context.Context)
}

// Start builds the App. It may wait for what the service needs; its context
// ends when the service is told to stop.
type Start func(ctx context.Context, metrics prometheus.Registerer) (*App, error)

// phases of a service's life
const (
	starting int32 = iota
	serving
	draining
)

type server struct {
	cfg     Config
	self    hops.Self
	app     *App
	phase   atomic.Int32
	metrics *metrics
	grpcs   []*grpc.Server
	http    *http.Server
	admin   *http.Server
}

func newServing(cfg Config) *server {
	if cfg.HardStop <= 0 {
		cfg.HardStop = 20 * time.Second
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = 4 * time.Second
	}
	return &server{cfg: cfg, self: hops.NewSelf(cfg.Service, cfg.Pod, cfg.Node, cfg.Version), metrics: newMetrics(cfg.Service, cfg.Version)}
}

// Run serves until ctx ends and everything is drained. The admin port is open
// from the first moment, so that a service that waits for its database is
// alive and not ready.
func Run(ctx context.Context, cfg Config, start Start) error {
	s := newServing(cfg)
	var serve errgroup.Group
	adminErr := make(chan error, 1)
	if err := s.openAdmin(ctx, adminErr); err != nil {
		return err
	}
	defer s.admin.Close()

	app, err := start(ctx, s.metrics.registry)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while starting: nothing to drain
		}
		return fmt.Errorf("starting %s: %w", cfg.Service, err)
	}
	s.app = app
	if err := cfg.Behaviour.Start(ctx); err != nil { // told to stop meanwhile
		s.close()
		return nil
	}
	failed := make(chan error, 1)
	if err := s.open(ctx, &serve, failed); err != nil {
		s.cut()
		s.close()
		return err
	}
	s.phase.Store(serving)
	cfg.Log.Info("serving", "service", cfg.Service, "version", cfg.Version, "pod", cfg.Pod, "node", cfg.Node)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
		err = fmt.Errorf("serving %s: %w", cfg.Service, err)
	case err = <-adminErr:
		err = fmt.Errorf("serving the admin port: %w", err)
	}
	s.end(err)
	_ = serve.Wait()
	return err
}

// end drains and stops; after an error, or with no drain, it cuts.
func (s *server) end(err error) {
	s.phase.Store(draining)
	if err != nil || s.cfg.Drain <= 0 {
		s.cut()
		return
	}
	s.cfg.Log.Info("draining", "service", s.cfg.Service, "for", s.cfg.Drain.String())
	hard, cancel := context.WithTimeout(context.Background(), s.cfg.HardStop)
	defer cancel()
	_ = pause.For(hard, s.cfg.Drain)
	s.stop(hard)
	s.close()
	s.cfg.Log.Info("stopped", "service", s.cfg.Service)
}

// stop lets running requests end, and cuts them when hard ends.
func (s *server) stop(hard context.Context) {
	var stops errgroup.Group
	for _, g := range s.grpcs {
		stops.Go(func() error {
			done := make(chan struct{})
			go func() { g.GracefulStop(); close(done) }()
			select {
			case <-done:
			case <-hard.Done():
				g.Stop()
				<-done
			}
			return nil
		})
	}
	if s.http != nil {
		stops.Go(func() error {
			if err := s.http.Shutdown(hard); err != nil {
				s.cfg.Log.Warn("requests were cut", "service", s.cfg.Service, "error", err)
				return s.http.Close()
			}
			return nil
		})
	}
	_ = stops.Wait()
}

// cut closes every connection as it is.
func (s *server) cut() {
	for _, g := range s.grpcs {
		g.Stop()
	}
	if s.http != nil {
		_ = s.http.Close()
	}
}

func (s *server) close() {
	if s.app == nil || s.app.Close == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	s.app.Close(ctx)
}

// open opens the ports of the service and serves on them. A port that fails
// later reports on failed.
func (s *server) open(ctx context.Context, group *errgroup.Group, failed chan<- error) error {
	report := func(err error) {
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			select {
			case failed <- err:
			default:
			}
		}
	}
	inner := s.newGRPC(nil)
	if err := s.serveGRPC(ctx, group, report, inner, s.cfg.GRPC); err != nil {
		return err
	}
	if len(s.app.EdgeMethods) > 0 {
		if err := s.serveGRPC(ctx, group, report, s.newGRPC(s.app.EdgeMethods), s.cfg.EdgeGRPC); err != nil {
			return err
		}
	}
	if len(s.app.REST) == 0 {
		return nil
	}
	l, err := s.listen(ctx, s.cfg.HTTP)
	if err != nil {
		return err
	}
	s.http = s.newHTTP()
	group.Go(func() error { report(s.http.Serve(l)); return nil })
	return nil
}

func (s *server) serveGRPC(ctx context.Context, group *errgroup.Group, report func(error), g *grpc.Server, addr string) error {
	l, err := s.listen(ctx, addr)
	if err != nil {
		return err
	}
	s.grpcs = append(s.grpcs, g)
	group.Go(func() error { report(g.Serve(l)); return nil })
	return nil
}

func (s *server) listen(ctx context.Context, addr string) (net.Listener, error) {
	open := s.cfg.Listen
	if open == nil {
		open = func(ctx context.Context, addr string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		}
	}
	l, err := open(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("opening port %s: %w", addr, err)
	}
	return l, nil
}
