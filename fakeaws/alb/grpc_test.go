package alb

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
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

func grpcConn(t *testing.T, s *sandbox) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func grpcSandbox(t *testing.T, change setup) (*sandbox, healthpb.HealthClient) {
	t.Helper()
	port, doors := listenOn(t, "127.0.0.1")
	grpcTarget(t, doors[0])
	s := start(t, change,
		testIngress("grpc", toPods("backend-protocol-version", "GRPC"), path{networkingv1.PathTypeImplementationSpecific, "/grpc.health.v1.Health/*", "shop", 9091}),
		testService("shop", testPort("grpc-edge", 9091, 0)), podsOf("grpc-edge", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	s.awaitHealth(t, "shop-a", "healthy")
	return s, healthpb.NewHealthClient(grpcConn(t, s))
}

func TestGRPCCallsPassWithTheirTrailers(t *testing.T) {
	s, client := grpcSandbox(t, nil)
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
	e := s.lastEntries(t, 100)[0]
	require.Equal(t, "grpcs", e["type"])
	require.Equal(t, "POST http://"+s.grpc+"/grpc.health.v1.Health/Check HTTP/2.0", e["request"])
	require.Equal(t, []string{"200", "200"}, []string{e["elb_status_code"], e["target_status_code"]})
	require.True(t, strings.HasPrefix(e["user_agent"], "grpc-go/"), e["user_agent"])
}

func TestGRPCStreamsPass(t *testing.T) {
	_, client := grpcSandbox(t, nil)
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

func TestASilentGRPCStreamIsCutAfterTheIdleTimeout(t *testing.T) {
	_, client := grpcSandbox(t, idleAfter(300*time.Millisecond))
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	_, err = stream.Recv() // there is no second change of health
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF)
}

func TestGRPCWithoutARuleOrATargetIsRefused(t *testing.T) {
	s, client := grpcSandbox(t, nil)
	err := grpcConn(t, s).Invoke(t.Context(), "/shop.v1.Nobody/Home", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	require.Equal(t, grpccodes.Unimplemented, status.Code(err), "%v", err) // what gRPC makes of a 404

	s.setPods(t, podsOf("grpc-edge", 1))
	s.awaitHealth(t, "shop-a", "draining")
	_, err = client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.Equal(t, grpccodes.Unavailable, status.Code(err), "%v", err)

	// as AWS answers gRPC: the code, and gRPC's status beside it
	transport := &http.Transport{Protocols: protocols(true, false)}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Post("http://"+s.grpc+"/grpc.health.v1.Health/Check", "application/grpc", nil)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Empty(t, body)
	require.Equal(t, 503, res.StatusCode)
	require.Equal(t, []string{"14", "unavailable", "application/grpc", "awselb/2.0"},
		[]string{res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message"), res.Header.Get("Content-Type"), res.Header.Get("Server")})
}

func TestTheWrongProtocolIs464(t *testing.T) {
	s, _ := grpcSandbox(t, nil)
	for i, c := range []struct {
		name   string
		http2  bool
		method string
		kind   string
	}{
		{"HTTP/1.1 to a gRPC target group", false, http.MethodPost, "http"},
		{"HTTP/2 that is no POST to a gRPC target group", true, http.MethodGet, "h2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			transport := &http.Transport{Protocols: protocols(c.http2, false)}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequest(c.method, "http://"+s.grpc+"/grpc.health.v1.Health/Check", nil)
			require.NoError(t, err)
			res, err := (&http.Client{Transport: transport}).Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, 464, res.StatusCode)
			require.Empty(t, body)
			require.Empty(t, res.Header.Get("Content-Type"))
			e := s.lastEntries(t, i+1)[i]
			require.Equal(t, []string{c.kind, "464", "-", "-", s.Groups()[0].ARN},
				[]string{e["type"], e["elb_status_code"], e["target_status_code"], e["target:port"], e["target_group_arn"]})
		})
	}
}
