// Package echo is a server that says who it is and gives back what it was
// sent, in each of the ways that a mesh tells apart: HTTP/1.1 and h2c,
// WebSocket, gRPC, TCP whose client speaks first, and TCP whose server does.
package echo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say where to listen, host:port; "" is not at all.
type Options struct {
	HTTP     string
	GRPC     string
	TCP      string // gives every byte back
	Greeting string // the same, after a first line of its own
	Name     string // what it calls itself; "" is the host's name, in a pod the pod's
}

// drainWithin is how long calls under way get when the server is told to end.
const drainWithin = 5 * time.Second

// Serve answers until ctx ends.
func Serve(ctx context.Context, o Options) error {
	if o.HTTP+o.GRPC+o.TCP+o.Greeting == "" {
		return errors.New("echo-server needs --http, --grpc, --tcp or --greeting")
	}
	if o.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find this host's name: %w", err)
		}
		o.Name = host
	}
	type part struct {
		listen string
		serve  func(context.Context, net.Listener, string) error
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range []part{{o.HTTP, serveHTTP}, {o.GRPC, serveGRPC}, {o.TCP, serveTCP}, {o.Greeting, serveGreeting}} {
		if p.listen == "" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.listen)
		if err != nil {
			group.Go(func() error { return fmt.Errorf("listen on %s: %w", p.listen, err) })
			break
		}
		group.Go(func() error { return p.serve(ctx, l, o.Name) })
	}
	return group.Wait()
}
