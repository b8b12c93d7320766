package proxy

import (
	"context"
	"io"
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

func TestADeadlineReachesTheServerAndEndsTheCallThere(t *testing.T) {
	client, p, s := pair(t, true)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-wait", "10s"), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{})
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.Less(t, time.Since(begin), 2*time.Second)
	require.Eventually(t, func() bool { return p.ended.Load() == 1 }, 5*time.Second, 5*time.Millisecond)
	left := time.Duration(p.patience.Load())
	require.Positive(t, left)
	require.LessOrEqual(t, left, 300*time.Millisecond)
	require.Zero(t, labelled(t, s.metrics, "outbound_http_errors_total", "error")["failfast"])
}

func TestMessagesOfTheServerComeUntilItsTrailers(t *testing.T) {
	client, _, _ := pair(t, true)
	var req testgrpc.StreamingOutputCallRequest
	for i := range 50 {
		req.ResponseParameters = append(req.ResponseParameters, &testgrpc.ResponseParameters{Size: int32(i * 2000)})
	}
	for end, want := range map[string]codes.Code{"": codes.OK, "lost": codes.DataLoss} {
		ctx := short(t)
		if end != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-end", end)
		}
		stream, err := client.StreamingOutputCall(ctx, &req)
		require.NoError(t, err)
		for i := range 50 {
			res, err := stream.Recv()
			require.NoError(t, err)
			require.Len(t, res.Payload.GetBody(), i*2000)
		}
		_, err = stream.Recv()
		if want == codes.OK {
			require.ErrorIs(t, err, io.EOF)
		} else {
			require.Equal(t, want, status.Code(err))
			require.Equal(t, end, status.Convert(err).Message())
		}
		require.Equal(t, []string{"50"}, stream.Trailer().Get("x-sent"))
	}
}

func TestMessagesOfTheClientGoUntilItHasNoMoreOrTheServerHasEnough(t *testing.T) {
	client, _, _ := pair(t, true)
	message := &testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 30_000)}}
	stream, err := client.StreamingInputCall(short(t))
	require.NoError(t, err)
	for range 40 {
		require.NoError(t, stream.Send(message))
	}
	res, err := stream.CloseAndRecv()
	require.NoError(t, err)
	require.EqualValues(t, 40*30_000, res.AggregatedPayloadSize)

	stream, err = client.StreamingInputCall(metadata.AppendToOutgoingContext(short(t), "x-enough", "no more"))
	require.NoError(t, err)
	for err == nil {
		err = stream.Send(message)
	}
	require.ErrorIs(t, err, io.EOF, "the server ended the stream")
	_, err = stream.CloseAndRecv()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, "no more", status.Convert(err).Message())
}

func TestAClientThatCancelsEndsItsStreamAtTheServer(t *testing.T) {
	client, p, _ := pair(t, true)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(short(t), "x-end", "never"))
	down, err := client.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}}})
	require.NoError(t, err)
	_, err = down.Recv()
	require.NoError(t, err)
	up, err := client.StreamingInputCall(ctx)
	require.NoError(t, err)
	require.NoError(t, up.Send(&testgrpc.StreamingInputCallRequest{}))
	require.Eventually(t, func() bool { return p.served.Load() == 1 }, 5*time.Second, 5*time.Millisecond)
	cancel()
	_, err = down.Recv()
	require.Equal(t, codes.Canceled, status.Code(err))
	require.Eventually(t, func() bool { return p.ended.Load() == 2 }, 5*time.Second, 5*time.Millisecond)
}

func TestAServerThatBreaksOffAStreamMakesAnErrorNotAnEnd(t *testing.T) {
	client, p, s := pair(t, true)
	stream, err := client.StreamingOutputCall(metadata.AppendToOutgoingContext(short(t), "x-end", "never"),
		&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}}})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	p.grpc.Stop()
	_, err = stream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Eventually(t, func() bool { return labelled(t, s.metrics, "response_total", "classification")["failure"] == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, map[string]float64{"14": 1}, labelled(t, s.metrics, "response_total", "grpc_status"))
}
