package alb

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	networkingv1 "k8s.io/api/networking/v1"
)

// withPodTrailer adds a trailer to each answer, as the shop does.
func withPodTrailer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-shop-pod", "catalog-1"))
	return next(ctx, req)
}

func grpcTarget(t *testing.T, door net.Listener) {
	t.Helper()
	server := grpc.NewServer(grpc.UnaryInterceptor(withPodTrailer))
	healthpb.RegisterHealthServer(server, grpchealth.NewServer())
	go func() { _ = server.Serve(door) }()
	t.Cleanup(server.Stop)
}

func grpcSandbox(t *testing.T) (*sandbox, healthpb.HealthClient) {
	t.Helper()
	port, doors := listenOn(t, "127.0.0.1")
	grpcTarget(t, doors[0])
	notes := map[string]string{"backend-protocol-version": "GRPC", "healthcheck-interval-seconds": "1"}
	s := start(t, time.Second,
		testIngress("grpc", notes, path{networkingv1.PathTypeImplementationSpecific, "/grpc.health.v1.Health/*", "shop", 9091}),
		testService("shop", testPort("grpc-edge", 9091, port)), testNode("a", "127.0.0.1"))
	s.awaitHealth(t, "a", "healthy")
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return s, healthpb.NewHealthClient(conn)
}

func TestGRPCCallsPassWithTheirTrailers(t *testing.T) {
	s, client := grpcSandbox(t)
	for _, c := range []struct {
		name, service string
		code          grpccodes.Code
	}{
		{"a success", "", grpccodes.OK},
		{"an error of headers alone", "unknown", grpccodes.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 50 { // an error that is headers alone must not depend on timing
				var trailer metadata.MD
				_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: c.service}, grpc.Trailer(&trailer))
				require.Equal(t, c.code, status.Code(err), "%v", err)
				require.Equal(t, []string{"catalog-1"}, trailer.Get("x-shop-pod"))
			}
		})
	}
	require.Eventually(t, func() bool { return len(s.access.entries(t)) == 100 }, 5*time.Second, time.Millisecond)
	require.Equal(t, "/grpc.health.v1.Health/Check", s.access.entries(t)[0].Path)
	require.Equal(t, "HTTP/2.0", s.access.entries(t)[0].Protocol)
}

func TestGRPCStreamsPass(t *testing.T) {
	_, client := grpcSandbox(t)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, first.Status)
	cancel()
	_, err = stream.Recv()
	require.NotErrorIs(t, err, io.EOF)
	require.Equal(t, grpccodes.Canceled, status.Code(err))
}

func TestGRPCWithoutARuleOrATargetIsRefused(t *testing.T) {
	s, _ := grpcSandbox(t)
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	err = conn.Invoke(t.Context(), "/shop.v1.Nobody/Home", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	require.Equal(t, grpccodes.Unimplemented, status.Code(err), "%v", err) // what gRPC makes of a 404

	s.table.apply(t.Context(), desired{rules: s.table.live.Load().rules,
		groups: []groupSpec{(s.table.live.Load().groups["prod-app/shop:9091/grpc"]).spec}})
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.Equal(t, grpccodes.Unavailable, status.Code(err), "%v", err) // and of a 503
}
