// Package alb stands in for an AWS Application Load Balancer and the
// controller that sets it up from Ingress objects: rules by path, target groups
// of nodes or of pods with health checks, deregistration delay and slow start,
// an HTTP/1.1 listener, and a gRPC listener. AWS's gRPC listener wants TLS;
// this one is without.
package alb

import (
	"cmp"
	"context"
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
	headTimeout = time.Minute
	lastGoodbye = 5 * time.Second // how long requests under way may take at the end
)

// Options configure a Balancer; unmarked ones are needed.
type Options struct {
	HTTP   net.Listener // HTTP/1.1
	GRPC   net.Listener // HTTP/2 without TLS
	Access io.Writer    // lines in the format of AWS's access logs, within a second of their request
	Log    *slog.Logger

	// Name, Region and Account make the resource IDs in the access log.
	Name, Region, Account string
	// TargetType is of an Ingress that names none; default instance.
	TargetType TargetType
	// Propagation is how long a registration or deregistration takes to get
	// from the controller to the load balancer; default 0.
	Propagation time.Duration
	// Pods leads to targets of type ip; nil where they are reached as they are.
	Pods PodNetwork
	// Gates keeps pods' readiness gates; nil: there are none.
	Gates *Gates
}

// Balancer is the load balancer with its controller.
type Balancer struct {
	o       Options
	table   *table
	watcher *watcher
	flush   time.Duration // how often logs are written
}

// New returns a balancer that serves nothing until Run.
func New(o Options) *Balancer {
	t := newTable(owner{o.Name, o.Region, o.Account}, o.Propagation, o.Log)
	return &Balancer{
		o:     o,
		table: t,
		flush: accessFlush,
		watcher: &watcher{
			table: t, targetType: cmp.Or(o.TargetType, InstanceTargets), settings: defaultSettings,
			pods: o.Pods, gates: o.Gates, log: o.Log, settle: settle,
		},
	}
}

// Run serves until ctx ends, then lets requests under way finish. connect
// gives the cluster's client as soon as there is one; until then every
// request is answered 404, as by a load balancer without rules.
func (b *Balancer) Run(ctx context.Context, connect func(context.Context) (kubernetes.Interface, error)) error {
	access, failed := newAccessLog(b.o.Access, b.table.owner.balancer()), newFailures(b.o.Log)
	defer func() {
		access.flush()
		failed.tell()
	}()
	if b.o.Gates != nil {
		defer b.o.Gates.Listener.Close() // also where there never was a cluster
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		access.flushEvery(ctx, b.flush, failed.tell)
		return nil
	})
	for l, door := range map[Listener]net.Listener{HTTP: b.o.HTTP, GRPC: b.o.GRPC} {
		handler := newProxy(l, portOf(door), b.table, access, failed, b.o.Log)
		g.Go(func() error { return b.serve(ctx, door, handler, l) })
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

func (b *Balancer) serve(ctx context.Context, door net.Listener, handler http.Handler, l Listener) error {
	spoken := new(http.Protocols)
	spoken.SetHTTP1(true) // on the gRPC listener to be told that it is the wrong one
	spoken.SetUnencryptedHTTP2(l == GRPC)
	server := &http.Server{
		Handler:           handler,
		Protocols:         spoken,
		ReadHeaderTimeout: headTimeout,
		ConnState:         b.table.watchClient, // which ends idle connections, too
		ConnContext:       rememberClient,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // the access log tells it
	}
	return ServeUntil(ctx, server, entrance{door, b.table})
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
