package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// Pauses between attempts to reach the control plane.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// controlConn is a connection to a control plane service, all of whose
// addresses are tried in turn.
func controlConn(addr string, creds credentials.TransportCredentials, count stats.Handler) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("dns:///"+addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(count),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", addr, err)
	}
	return conn, nil
}

// controlStats counts the calls to one service of the control plane.
type controlStats struct {
	metrics *metrics.Registry
	service metrics.Control
}

// controlCall is one call; gRPC tells of its parts one after another.
type controlCall struct {
	mu    sync.Mutex
	begin time.Time
	first time.Duration // when the first answer came; 0 until then
}

type controlCallKey struct{}

// TagRPC implements stats.Handler.
func (s *controlStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, controlCallKey{}, &controlCall{})
}

// HandleRPC implements stats.Handler.
func (s *controlStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	call, ok := ctx.Value(controlCallKey{}).(*controlCall)
	if !ok {
		return
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	switch event := event.(type) {
	case *stats.OutHeader:
		call.begin = time.Now()
		s.metrics.Control(s.service).Request()
	case *stats.InPayload:
		if call.first == 0 {
			call.first = event.RecvTime.Sub(call.begin)
		}
	case *stats.End:
		if call.begin.IsZero() {
			return // it was never sent
		}
		if call.first == 0 {
			call.first = event.EndTime.Sub(call.begin)
		}
		code := strconv.Itoa(int(status.Code(event.Error)))
		s.metrics.Control(s.service).Response(metrics.Response{Status: http.StatusOK, GRPCStatus: code}, call.first)
	}
}

// TagConn implements stats.Handler.
func (s *controlStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (s *controlStats) HandleConn(context.Context, stats.ConnStats) {}

// IdentityTLS is how the identity service is spoken to: it proves who it is,
// the caller cannot yet.
func IdentityTLS(creds *meshtls.Credentials, name string) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256},
		RootCAs: creds.Roots(), ServerName: name,
	})
}

// discovery watches addresses by the destination service.
type discovery struct {
	client meshapi.DestinationClient
	ready  <-chan struct{} // closed once there is a certificate to show
	pod    string
	log    *slog.Logger
}

// watch implements outbound.Watch. Between streams what is known stays.
func (d *discovery) watch(ctx context.Context, addr netip.AddrPort, update func(*meshapi.Destinations)) {
	subscribe(ctx, d.ready, d.log.With("dst", addr), func(ctx context.Context) (grpc.ServerStreamingClient[meshapi.Destinations], error) {
		return d.client.Watch(ctx, &meshapi.WatchRequest{Address: addr.String(), Pod: d.pod}, grpc.WaitForReady(true))
	}, update)
}

// subscribe keeps a stream of the control plane open until ctx ends, from when
// there is a certificate to show, and passes on what it says.
func subscribe[T any](ctx context.Context, ready <-chan struct{}, log *slog.Logger, open func(context.Context) (grpc.ServerStreamingClient[T], error), update func(*T)) {
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	wait := minPause
	for ctx.Err() == nil {
		got, err := hear(ctx, open, update)
		if ctx.Err() != nil {
			return
		}
		if got {
			wait = minPause
		}
		log.Debug("the control plane was interrupted", "error", err)
		_ = pause.For(ctx, pause.Spread(wait))
		wait = min(2*wait, maxPause)
	}
}

func hear[T any](ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[T], error), update func(*T)) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return false, err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return got, err
		}
		got = true
		update(answer)
	}
}
