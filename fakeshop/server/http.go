package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/fakeshop/tracing"
)

// newHTTP makes the REST edge. Its idle timeout is longer than a load
// balancer's (60 s), so that it is never the one to close first.
func (s *server) newHTTP() *http.Server {
	edge := rest.Edge{Service: s.cfg.Service, Pod: s.cfg.Pod}
	mux := http.NewServeMux()
	for pattern, h := range s.app.REST {
		mux.Handle(pattern, edge.Handle(s.behaving(h)))
	}
	mux.HandleFunc("GET /healthz", ok) // the load balancer asks here
	return &http.Server{
		Handler:           s.frame(edge, mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

// behaving lets the service misbehave before it works on a request.
func (s *server) behaving(h rest.Handler) rest.Handler {
	return func(r *http.Request) (int, any, error) {
		if err := s.cfg.Behaviour.Request(r.Context()); err != nil {
			return 0, nil, err
		}
		return h(r)
	}
}

// frame is around every REST request: deadline, count, drain, panics.
func (s *server) frame(edge rest.Edge, mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		ctx, way := hops.Begin(tracing.FromHTTP(r.Context(), r.Header))
		ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK, way: way, self: s.self}
		rec.Header().Set(shopapi.PodHeader, s.cfg.Pod)
		rec.Header().Set(shopapi.VersionHeader, s.cfg.Version)
		if s.phase.Load() == draining {
			rec.Header().Set("Connection", "close")
		}
		route := ""
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Log.Error("panic", "route", route, "panic", p, "stack", string(debug.Stack()))
				edge.Fail(rec, fail.New(codes.Internal, "", "the service met a bug of its own"))
			}
			if rec.status >= 500 || rec.status == http.StatusForbidden {
				s.cfg.Log.Warn("request failed", "route", route, "status", rec.status, "trace", tracing.ID(ctx))
			}
			s.metrics.observe("http", route, strconv.Itoa(rec.status), time.Since(begin))
		}()
		h, pattern := mux.Handler(r)
		route = pattern
		if pattern == "" {
			edge.Unrouted(rec, r, h)
			return
		}
		mux.ServeHTTP(rec, r)
	})
}

// recorder remembers the status of an answer, and writes the request's way into
// its header at the last moment.
type recorder struct {
	http.ResponseWriter
	status int
	way    *hops.Record
	self   hops.Self
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.Header().Set(shopapi.HopsHeader, r.way.Answer(r.self))
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// openAdmin opens /healthz, /readyz and /metrics.
func (s *server) openAdmin(ctx context.Context, failed chan<- error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{DisableCompression: true}))
	s.admin = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 120 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	l, err := s.listen(ctx, s.cfg.Admin)
	if err != nil {
		return err
	}
	go func(admin *http.Server, l net.Listener) {
		if err := admin.Serve(l); err != http.ErrServerClosed {
			failed <- err
		}
	}(s.admin, l)
	return nil
}

func ok(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n"))
}

func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	if why := s.notReady(r.Context()); why != "" {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	ok(w, r)
}
