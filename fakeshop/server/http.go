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
)

// newHTTP makes the REST edge. Its idle timeout is longer than a load
// balancer's (60 s), so that it is never the one to close first.
func (s *server) newHTTP() *http.Server {
	edge := rest.Edge{Service: s.cfg.Service, Pod: s.cfg.Pod}
	mux := http.NewServeMux()
	for pattern, h := range s.app.REST {
		mux.Handle(pattern, edge.Handle(h))
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

// frame is around every REST request: deadline, count, drain, panics.
func (s *server) frame(edge rest.Edge, mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		rec.Header().Set(shopapi.PodHeader, s.cfg.Pod)
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
				s.cfg.Log.Warn("request failed", "route", route, "status", rec.status)
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

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
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

// readyz speaks for this pod alone: what other services do is no reason to
// take it out of service.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	switch s.phase.Load() {
	case starting:
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	case draining:
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 900*time.Millisecond)
	defer cancel()
	if s.app.Ready != nil {
		if err := s.app.Ready(ctx); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	ok(w, r)
}
