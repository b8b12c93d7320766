package echo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serving runs one part on a loopback port until the test ends.
func serving(t *testing.T, serve func(context.Context, net.Listener, string) error) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l, "web-0") }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func TestHTTPSpeaksBothVersions(t *testing.T) {
	addr, _ := serving(t, serveHTTP)
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	for want, transport := range map[string]*http.Transport{"HTTP/1.1": {}, "HTTP/2.0": {Protocols: &h2}} {
		client := &http.Client{Transport: transport}
		res, err := client.Get("http://" + addr + "/a/path")
		require.NoError(t, err)
		var got Answer
		require.NoError(t, json.NewDecoder(res.Body).Decode(&got))
		require.NoError(t, res.Body.Close())
		require.Equal(t, []string{"web-0", want, "GET", "/a/path"}, []string{got.Name, got.Proto, got.Method, got.Path})
		client.CloseIdleConnections()
	}
}

func TestAStatusIsAnsweredAsAsked(t *testing.T) {
	addr, _ := serving(t, serveHTTP)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"/status/204": 204, "/status/503": 503, "/status/7": 400, "/status/x": 400} {
		res, err := client.Get("http://" + addr + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
	}
}

func TestGRPCFailsAsAskedAndTellsItsHealth(t *testing.T) {
	addr, _ := serving(t, serveGRPC)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	for _, code := range []codes.Code{codes.OK, codes.NotFound, codes.Unavailable} {
		err := conn.Invoke(t.Context(), Fail, wrapperspb.Int32(int32(code)), &wrapperspb.StringValue{})
		require.Equal(t, code, status.Code(err))
	}
	answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.GetStatus())
}

func TestTheGreetingComesBeforeAnyByteOfTheClient(t *testing.T) {
	addr, stop := serving(t, serveGreeting)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	line := make([]byte, len("hello from web-0\n"))
	_, err = io.ReadFull(conn, line)
	require.NoError(t, err)
	require.Equal(t, "hello from web-0\n", string(line))
	stop()
	_, err = conn.Read(line)
	require.ErrorIs(t, err, io.EOF, "a server that ends hangs up")
}

func TestServeSaysWhereItCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	taken := l.Addr().String()
	require.ErrorContains(t, Serve(t.Context(), Options{TCP: "127.0.0.1:0", Greeting: taken}), "listen on "+taken)
	require.ErrorContains(t, Serve(t.Context(), Options{}), "echo-server needs")
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.NoError(t, Serve(ctx, Options{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", TCP: "127.0.0.1:0", Greeting: "127.0.0.1:0"}))
}
