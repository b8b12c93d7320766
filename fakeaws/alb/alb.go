// Package alb stands in for an AWS Application Load Balancer and the
// controller that sets it up from Ingress objects: rules by path, instance
// targets (a node's address and a Service's NodePort) with health checks, an
// HTTP/1.1 listener, and a gRPC listener. AWS's gRPC listener wants TLS; this
// one is without.
package alb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

const (
	settle      = 100 * time.Millisecond
	clientIdle  = 60 * time.Second
	lastGoodbye = 5 * time.Second // how long requests under way may take at the end
)

// Options configure a Balancer; all are needed.
type Options struct {
	HTTP   net.Listener // HTTP/1.1
	GRPC   net.Listener // HTTP/2 without TLS
	Access io.Writer    // JSON lines, one a request, within a second of it
	Log    *slog.Logger
}

// Balancer is the load balancer with its controller.
type Balancer struct {
	o       Options
	table   *table
	watcher *watcher
	timeout time.Duration
}

// New returns a balancer that serves nothing until Run.
func New(o Options) *Balancer {
	t := newTable(o.Log)
	return &Balancer{
		o:       o,
		table:   t,
		watcher: &watcher{table: t, log: o.Log, settle: settle},
		timeout: targetTimeout,
	}
}

// Run serves until ctx ends, then lets requests under way finish. connect
// gives the cluster's client as soon as there is one; until then every
// request is answered 404, as by a load balancer without rules.
func (b *Balancer) Run(ctx context.Context, connect func(context.Context) (kubernetes.Interface, error)) error {
	access := newAccessLog(b.o.Access)
	defer access.flush()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		access.flushUntil(ctx)
		return nil
	})
	for l, door := range map[Listener]net.Listener{HTTP: b.o.HTTP, GRPC: b.o.GRPC} {
		transport := newTransport(l, b.timeout)
		defer transport.CloseIdleConnections()
		handler := newProxy(l, portOf(door), b.table, access, transport, b.o.Log)
		g.Go(func() error { return serve(ctx, door, handler, l) })
	}
	g.Go(func() error {
		client, err := connect(ctx)
		if err != nil {
			return quietly(ctx, fmt.Errorf("reach the cluster: %w", err))
		}
		return quietly(ctx, b.watcher.run(ctx, client))
	})
	err := g.Wait()
	b.table.wait()
	return err
}

// quietly drops errors that only say that ctx has ended.
func quietly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func portOf(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return ""
	}
	return port
}

func serve(ctx context.Context, door net.Listener, handler http.Handler, l Listener) error {
	server := &http.Server{
		Handler:           handler,
		Protocols:         protocols(l == GRPC),
		ReadHeaderTimeout: clientIdle,
		IdleTimeout:       clientIdle,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // the access log tells it
	}
	return ServeUntil(ctx, server, door)
}

// ServeUntil runs server on door until ctx ends, then gives requests under
// way a few seconds to finish.
func ServeUntil(ctx context.Context, server *http.Server, door net.Listener) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastGoodbye)
		defer cancel()
		err := server.Shutdown(bye)
		if err != nil {
			err = server.Close()
		}
		stopped <- err
	})
	err := server.Serve(door)
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve on %s: %w", door.Addr(), err)
	}
	return <-stopped
}

// Admin serves /-/ready (200 once the cluster's objects are known) and
// /-/targets (every target group as JSON).
func (b *Balancer) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !b.watcher.synced.Load() {
			http.Error(w, "the cluster's objects are not known yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /-/targets", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(b.Groups()) // a reader who has gone needs no answer
	})
	return mux
}

// Group is a target group as /-/targets shows it.
type Group struct {
	Name     string   `json:"name"` // namespace/service:port/listener
	Listener Listener `json:"listener"`
	Paths    []string `json:"paths"`
	Targets  []Target `json:"targets"`
}

// Target is one target and its health: initial, healthy or unhealthy.
type Target struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Health  string `json:"health"`
	Reason  string `json:"reason,omitempty"`
}

// Groups lists the target groups that rules lead to, in the order of the rules.
func (b *Balancer) Groups() []Group {
	now := b.table.live.Load()
	out := []Group{}
	at := map[string]int{}
	for _, l := range []Listener{HTTP, GRPC} {
		for _, r := range now.rules[l] {
			i, seen := at[r.group]
			if !seen {
				i = len(out)
				at[r.group] = i
				out = append(out, describe(now.groups[r.group]))
			}
			out[i].Paths = append(out[i].Paths, r.path)
		}
	}
	return out
}

func describe(g *group) Group {
	d := Group{Name: g.spec.Key, Listener: g.spec.Listener, Targets: []Target{}}
	for _, t := range *g.targets.Load() {
		why, _ := t.reason.Load().(string)
		d.Targets = append(d.Targets, Target{Node: t.node.Name, Address: t.address, Health: t.health().String(), Reason: why})
	}
	return d
}
