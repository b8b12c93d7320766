package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// readyWithin is how long a probe waits for what the service needs.
const readyWithin = 900 * time.Millisecond

// notReady says why the service should get no requests now, "" when it should.
// It speaks for this pod alone: what other services do is no reason to take it
// out of service.
func (s *server) notReady(ctx context.Context) string {
	switch s.phase.Load() {
	case starting:
		return "starting"
	case draining:
		return "draining"
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if s.app.Ready != nil {
		if err := s.app.Ready(ctx); err != nil {
			return "not ready: " + err.Error()
		}
	}
	return ""
}

// Services of gRPC's health protocol: the first says whether the pod is ready,
// the second, while it answers at all, that it lives.
const (
	healthReady = ""
	healthLive  = "live"
)

// health answers native gRPC probes. At the edge it is the load balancer that
// asks, whether a pod is there; it is told of a pod's end by the cluster.
type health struct {
	healthpb.UnimplementedHealthServer
	s    *server
	edge bool
}

func (h health) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	switch req.GetService() {
	case healthReady:
		if !h.edge && h.s.notReady(ctx) != "" {
			return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
		}
	case healthLive:
	default:
		return nil, status.Errorf(codes.NotFound, "there is no service %q", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}
