package server

import (
	"context"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
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
	healthpb.RegisterHealthServer(g, health.NewServer())
	return g
}

const (
	rpcLimit    = 256 << 10
	healthCheck = "/grpc.health.v1.Health/Check"
)

// unary counts the call, keeps panics from ending the process, and writes who
// answered and where it failed into the trailer.
func (s *server) unary(proto string, edge []string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if info.FullMethod == healthCheck {
			return handler(ctx, req)
		}
		begin := time.Now()
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Log.Error("panic", "method", info.FullMethod, "panic", p, "stack", string(debug.Stack()))
				err = fail.New(codes.Internal, "", "the service met a bug of its own")
			}
			resp, err = s.finish(ctx, proto, info.FullMethod, begin, resp, err)
		}()
		if edge != nil && !slices.Contains(edge, info.FullMethod) {
			return nil, fail.New(codes.Unimplemented, "", "%s is not open to outside clients", info.FullMethod)
		}
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.cfg.RequestTimeout)
			defer cancel()
		}
		return handler(ctx, req)
	}
}

// finish annotates the answer of a call.
func (s *server) finish(ctx context.Context, proto, method string, begin time.Time, resp any, err error) (any, error) {
	trailer := metadata.Pairs(shopapi.PodHeader, s.cfg.Pod)
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
			s.cfg.Log.Warn("call failed", "method", method, "code", code.String(), "hop", f.Chain(s.cfg.Service), "error", f.Message)
		}
	}
	_ = grpc.SetTrailer(ctx, trailer) // fails only outside a call
	s.metrics.observe(proto, method, code.String(), time.Since(begin))
	return resp, err
}
