package server

import (
	"context"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/fakeshop/tracing"
)

// newGRPC makes a gRPC server of the app; with edge methods it answers only
// those.
func (s *server) newGRPC(edge []string) *grpc.Server {
	proto := "grpc"
	if edge != nil {
		proto = "grpc-edge"
	}
	g := grpc.NewServer(
		grpc.UnaryInterceptor(s.unary(proto, edge)),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 5 * time.Second,
			// Connections end now and then, by GOAWAY, so that clients spread
			// over pods that came later.
			MaxConnectionAge: 5 * time.Minute, MaxConnectionAgeGrace: 30 * time.Second,
		}),
		grpc.MaxRecvMsgSize(rpcLimit),
		grpc.ReadBufferSize(8<<10),
		grpc.WriteBufferSize(8<<10),
	)
	if s.app.Register != nil {
		s.app.Register(g)
	}
	healthpb.RegisterHealthServer(g, health{s: s, edge: edge != nil})
	return g
}

const (
	rpcLimit    = 256 << 10
	healthCheck = "/grpc.health.v1.Health/Check"
)

// A caller's deadline is its own: it must still be able to say what became of
// the call. So a share of what is left is kept for the way back, at each hop.
const (
	marginShare = 20 // one part of so many
	marginLeast = 2 * time.Millisecond
	marginMost  = 50 * time.Millisecond
)

// within is ctx with the time that the call may take.
func (s *server) within(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, s.cfg.RequestTimeout)
	}
	margin := min(max(deadline.Sub(now)/marginShare, marginLeast), marginMost)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

// Metadata of gRPC's own retries.
const (
	// noRetry tells a caller's gRPC that what was answered would be answered again.
	noRetry = "grpc-retry-pushback-ms"
	// previousAttempts is how often a call was sent before.
	previousAttempts = "grpc-previous-rpc-attempts"
)

// unary counts the call, keeps panics from ending the process, and writes into
// the trailer who answered, which way the call took and where it failed.
func (s *server) unary(proto string, edge []string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if info.FullMethod == healthCheck {
			return handler(ctx, req)
		}
		begin := time.Now()
		ctx, way := hops.Begin(tracing.FromGRPC(ctx))
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Log.Error("panic", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
				err = fail.New(codes.Internal, "", "the service met a bug of its own")
			}
			resp, err = s.finish(ctx, way, proto, info.FullMethod, begin, resp, err)
		}()
		if edge != nil && !slices.Contains(edge, info.FullMethod) {
			return nil, fail.New(codes.Unimplemented, "", "%s is not open to outside clients", info.FullMethod)
		}
		ctx, cancel := s.within(ctx, begin)
		defer cancel()
		if err := s.cfg.Behaviour.Request(ctx); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

// finish annotates the answer of a call.
func (s *server) finish(ctx context.Context, way *hops.Record, proto, method string, begin time.Time, resp any, err error) (any, error) {
	trailer := metadata.MD{
		shopapi.PodHeader: {s.cfg.Pod}, shopapi.VersionHeader: {s.cfg.Version}, shopapi.HopsHeader: {way.Answer(s.self)},
	}
	if before := metadata.ValueFromIncomingContext(ctx, previousAttempts); len(before) > 0 {
		if n, err := strconv.Atoi(before[0]); err == nil {
			trailer.Set(shopapi.AttemptHeader, strconv.Itoa(n+1))
		}
	}
	code := codes.OK
	if err != nil {
		f := fail.From(err)
		code, resp, err = f.Code, nil, f
		trailer.Set(shopapi.ReasonHeader, f.Word())
		if fail.IsFailure(code) {
			trailer.Set(shopapi.HopHeader, f.Chain(s.cfg.Service))
			trailer.Set(shopapi.FailedPodHeader, f.Pod)
			if f.Pod == "" {
				trailer.Set(shopapi.FailedPodHeader, s.cfg.Pod)
			}
			trailer.Set(noRetry, "-1")
			s.cfg.Log.Warn("call failed", "method", method, "code", code.String(), "hop", f.Chain(s.cfg.Service), "error", f.Message,
				"trace", tracing.ID(ctx))
		}
	}
	_ = grpc.SetTrailer(ctx, trailer) // fails only outside a call
	s.metrics.observe(proto, method, code.String(), time.Since(begin))
	return resp, err
}
