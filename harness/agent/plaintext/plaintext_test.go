package plaintext

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grpcServer answers every call with err; with nil it knows no method.
func grpcServer(t *testing.T, err error) string {
	t.Helper()
	var options []grpc.ServerOption
	if err != nil {
		options = append(options, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return err }))
	}
	server := grpc.NewServer(options...)
	l, lerr := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, lerr)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// httpServer answers every request with code, by HTTP/1.1 and HTTP/2, as a proxy does.
func httpServer(t *testing.T, code int) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// rawServer does to every connection what it is told.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// hangUp reads a little and closes, as a proxy does that wants TLS.
func hangUp(conn net.Conn) { _, _ = conn.Read(make([]byte, 1024)) }

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestGRPCCallsAreJudgedByWhoAnswers(t *testing.T) {
	for _, c := range []struct {
		name, addr string
		want       Outcome
		why        string
	}{
		{"a server that knows no such method was reached", grpcServer(t, nil), Accepted, "Unimplemented"},
		{"a business error is an answer", grpcServer(t, status.Error(codes.NotFound, "no")), Accepted, "NotFound"},
		{"an internal error is an answer", grpcServer(t, status.Error(codes.Internal, "oops")), Accepted, "Internal"},
		{"a policy's denial refuses", grpcServer(t, status.Error(codes.PermissionDenied, "no")), Refused, "PermissionDenied"},
		{"an overloaded server says nothing about policy", grpcServer(t, status.Error(codes.Unavailable, "busy")), Unknown, "Unavailable"},
		{"a closed port says nothing about policy", closedPort(t), Unknown, "connection refused"},
		{"a gateway's own 503 says nothing about policy", httpServer(t, 503), Unknown, "Unavailable"},
		{"a 403 refuses", httpServer(t, 403), Refused, "PermissionDenied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why := Knock(t.Context(), c.addr)
			require.Equal(t, c.want, got, why)
			require.Contains(t, why, c.why)
		})
	}
}

func TestHTTPCallsAreJudgedByWhoAnswers(t *testing.T) {
	for _, c := range []struct {
		name, addr string
		want       Outcome
		why        string
	}{
		{"a page was reached", httpServer(t, 200), Accepted, "200"},
		{"not found is an answer", httpServer(t, 404), Accepted, "404"},
		{"a server's own error is an answer", httpServer(t, 500), Accepted, "500"},
		{"a policy's denial refuses", httpServer(t, 403), Refused, "403"},
		{"a bad gateway says nothing about policy", httpServer(t, 502), Unknown, "502"},
		{"an unavailable one says nothing about policy", httpServer(t, 503), Unknown, "503"},
		{"a connection that is cut says nothing for certain", rawServer(t, hangUp), Unknown, "connection cut"},
		{"a closed port says nothing about policy", closedPort(t), Unknown, "connection refused"},
		{"a gRPC server does not speak it", grpcServer(t, nil), Unknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why := tryHTTP(t.Context(), c.addr)
			require.Equal(t, c.want, got, why)
			require.Contains(t, why, c.why)
		})
	}
}

func TestASilentServerIsUnknownAndTimeBoxed(t *testing.T) {
	silent := rawServer(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithTimeout(t.Context(), timeout/20)
	defer cancel()
	for name, try := range map[string]func(context.Context, string) (Outcome, string){"gRPC": func(ctx context.Context, addr string) (Outcome, string) { return Knock(ctx, addr) }, "HTTP/1.1": tryHTTP} {
		got, why := try(ctx, silent)
		require.Equal(t, Unknown, got, "%s: %s", name, why)
	}
}

func TestOnlyClearAnswersAreCounted(t *testing.T) {
	got := Try(t.Context(), []Target{
		{"open", grpcServer(t, nil)},
		{"closed", httpServer(t, 403)},
		{"gone", closedPort(t)},
	}, nil)
	require.Equal(t, []int{6, 2, 1}, []int{got.Attempts, got.Refused, got.Accepted})
	require.Len(t, got.Evidence, 6)
	require.Equal(t, "open over gRPC: accepted (grpc-status Unimplemented)", got.Evidence[0])
	require.Equal(t, "closed over HTTP/1.1: refused (403 Forbidden)", got.Evidence[3])

	text, err := json.Marshal(Try(t.Context(), nil, nil))
	require.NoError(t, err)
	require.JSONEq(t, `{"attempts":0,"refused":0,"accepted":0,"evidence":[]}`, string(text))
}

func TestWhatMayLetCallsInIsTriedAndNotCounted(t *testing.T) {
	open, edge := grpcServer(t, nil), httpServer(t, 404)
	got := Try(t.Context(), []Target{{"catalog", open}}, []Target{{"catalog", edge}})
	require.Equal(t, []int{2, 0, 1, 2}, []int{got.Attempts, got.Refused, got.Accepted, len(got.Evidence)})
	require.Len(t, got.Exempt, 2)
	require.Equal(t, Call{"catalog", edge, "HTTP/1.1", Accepted, "404 Not Found"}, got.Exempt[1])
}

func TestTargetsAreReadByTheLetter(t *testing.T) {
	got, err := ParseTargets([]string{"catalog=product-catalog.prod-app:9090", "six=[::1]:80"})
	require.NoError(t, err)
	require.Equal(t, []Target{{"catalog", "product-catalog.prod-app:9090"}, {"six", "[::1]:80"}}, got)
	for _, bad := range []string{"", "catalog", "=host:1", "catalog=host", "catalog=:80", "catalog=host:", "catalog=a:b:c"} {
		_, err := ParseTargets([]string{"ok=host:1", bad})
		require.ErrorContains(t, err, "is not NAME=HOST:PORT", bad)
	}
}

func FuzzParseTargets(f *testing.F) {
	for _, s := range []string{"a=b:1", "a=[::1]:1", "=", "a=b:1,c=d:2", "a=b=c:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, words string) {
		targets, err := ParseTargets(strings.Split(words, ","))
		if err != nil {
			return
		}
		for _, target := range targets {
			if target.Name == "" || !strings.Contains(target.Addr, ":") {
				t.Fatalf("%q gives %+v", words, target)
			}
		}
	})
}
