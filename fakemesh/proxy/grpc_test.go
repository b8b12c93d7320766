package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func pair(t testing.TB, meshed bool) (testgrpc.TestServiceClient, *pod, *sidecar) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: meshed})
	vip, _ := w.service("10.96.0.1:9090", p)
	s := w.sidecar("client")
	conn := grpcTo(t, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, vip) })
	return testgrpc.NewTestServiceClient(conn), p, s
}

func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAUnaryCallPassesTwoProxiesWithItsTrailersAndTheClientsIdentity(t *testing.T) {
	client, p, _ := pair(t, true)
	var trailer metadata.MD
	res, err := client.UnaryCall(short(t), &testgrpc.SimpleRequest{ResponseSize: 100_000}, grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.Equal(t, p.ip, res.ServerId)
	require.Equal(t, identityOf("client"), res.Username)
	require.Len(t, res.Payload.Body, 100_000)
	require.Equal(t, []string{p.ip}, trailer.Get("x-shop-pod"))
}

func TestAServerWithoutAProxyIsSpokenToInTheClear(t *testing.T) {
	client, p, _ := pair(t, false)
	res, err := client.UnaryCall(short(t), &testgrpc.SimpleRequest{})
	require.NoError(t, err)
	require.Equal(t, p.ip, res.ServerId)
	require.Empty(t, res.Username)
}

func TestAnErrorOfTheServerComesThroughAsItIs(t *testing.T) {
	client, p, _ := pair(t, true)
	var trailer metadata.MD
	_, err := client.UnaryCall(short(t), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 9, Message: "out_of_stock: päng"}}, grpc.Trailer(&trailer))
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.Equal(t, "out_of_stock: päng", status.Convert(err).Message())
	require.Equal(t, []string{p.ip}, trailer.Get("x-shop-pod"))
}

func TestAStreamGoesBothWaysMessageByMessage(t *testing.T) {
	client, _, _ := pair(t, true)
	stream, err := client.FullDuplexCall(short(t))
	require.NoError(t, err)
	for i := range 20 {
		size := int32(i * 5000)
		require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: size}}}))
		res, err := stream.Recv()
		require.NoError(t, err)
		require.Len(t, res.Payload.GetBody(), int(size))
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.Error(t, err)
	require.Equal(t, []string{"20"}, stream.Trailer().Get("x-messages"))
}

func TestADeadlineReachesTheServer(t *testing.T) {
	client, _, _ := pair(t, true)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-wait", "10s"), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{})
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.Less(t, time.Since(begin), 2*time.Second)
}
