package traffic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
)

func fromPod(pairs ...string) http.Header {
	h := http.Header{}
	h.Set("x-shop-pod", "edge-1")
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestHTTPAnswersAreClassified(t *testing.T) {
	const failed = `{"error":"no stock service","code":"unavailable","hop":"order-processing>inventory-management","pod":"inventory-7"}`
	long := strings.Repeat("é", 400)
	for _, c := range []struct {
		name   string
		code   int
		header http.Header
		body   string
		want   judgement
	}{
		{"a success", 200, fromPod(), "{}", judgement{200, "ok", "", "", "edge-1", "", ""}},
		{"a new order", 201, fromPod(), "{}", judgement{201, "ok", "", "", "edge-1", "", ""}},
		{"sold out", 409, fromPod(), `{"error":"sold out","code":"out_of_stock","pod":"edge-1"}`, judgement{409, "rejected", "", "", "edge-1", "sold out", ""}},
		{"a declined card", 402, fromPod(), `{"code":"payment_declined"}`, judgement{402, "rejected", "", "", "edge-1", "", ""}},
		{"not found", 404, fromPod(), `{"error":"none"}`, judgement{404, "rejected", "", "", "edge-1", "none", ""}},
		{"invalid", 400, fromPod(), `{}`, judgement{400, "rejected", "", "", "edge-1", "", ""}},
		{"an invalid configuration", 422, fromPod(), `{}`, judgement{422, "rejected", "", "", "edge-1", "", ""}},
		{"not found, says the load balancer", 404, nil, "<html>", judgement{404, "failed", "http-404", "order-processing", "", "404 Not Found", ""}},
		{"a failure behind the edge", 503, fromPod(), failed, judgement{503, "failed", "http-503", "order-processing>inventory-management", "inventory-7", "no stock service", ""}},
		{"a bad gateway", 502, nil, "<html>502</html>", judgement{502, "failed", "http-502", "order-processing", "", "502 Bad Gateway", ""}},
		{"a gateway timeout", 504, nil, "", judgement{504, "failed", "http-504", "order-processing", "", "504 Gateway Timeout", ""}},
		{"denied by a policy behind the edge", 403, fromPod(), `{"error":"denied","code":"permission_denied","hop":"a>b","pod":"b-1"}`, judgement{403, "failed", "policy-denied", "a>b", "b-1", "denied", ""}},
		{"denied by a proxy", 403, fromPod("l5d-proxy-error", "unauthorized"), "", judgement{403, "failed", "policy-denied", "order-processing", "edge-1", "unauthorized", ""}},
		{"forbidden by somebody", 403, nil, "", judgement{403, "failed", "http-403", "order-processing", "", "403 Forbidden", ""}},
		{"too many requests", 429, fromPod(), "", judgement{429, "failed", "http-429", "order-processing", "edge-1", "429 Too Many Requests", ""}},
		{"a redirect, which the shop never sends", 302, fromPod(), "", judgement{302, "failed", "http-302", "order-processing", "edge-1", "302 Found", ""}},
		{"half a body", 500, fromPod(), failed[:30], judgement{500, "failed", "http-500", "order-processing", "edge-1", "500 Internal Server Error", ""}},
		{"a long story", 500, fromPod(), `{"error":"` + long + `"}`, judgement{500, "failed", "http-500", "order-processing", "edge-1", strings.Repeat("é", 150) + "…", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := c.header
			if header == nil {
				header = http.Header{}
			}
			require.Equal(t, c.want, judgeHTTP("order-processing", c.code, header, []byte(c.body), nil))
		})
	}
}

func TestTransportErrorsAreClassified(t *testing.T) {
	inURL := func(err error) error { return &url.Error{Op: "Post", URL: "http://127.0.0.1/x", Err: err} }
	inNet := func(err error) error {
		return inURL(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	for _, c := range []struct {
		name  string
		err   error
		class string
	}{
		{"refused", inNet(syscall.ECONNREFUSED), results.ClassConnectRefused},
		{"reset", inNet(syscall.ECONNRESET), results.ClassReset},
		{"a broken pipe", inNet(syscall.EPIPE), results.ClassReset},
		{"a deadline", inURL(context.DeadlineExceeded), results.ClassTimeout},
		{"a read deadline", inURL(os.ErrDeadlineExceeded), results.ClassTimeout},
		{"a timeout of the network", inNet(syscall.ETIMEDOUT), results.ClassTimeout},
		{"closed before an answer", inURL(io.EOF), results.ClassEOF},
		{"closed in an answer", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), results.ClassEOF},
		{"an idle connection closed", inURL(errors.New("http: server closed idle connection")), results.ClassEOF},
		{"TLS where there is none", inURL(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), results.ClassTLS},
		{"no ports left", inNet(syscall.EADDRNOTAVAIL), results.ClassSender},
		{"no files left", inNet(syscall.EMFILE), results.ClassSender},
		{"a foreign host", inURL(fmt.Errorf("dial: %w", errForeign)), results.ClassSender},
		{"nonsense", inURL(errors.New("malformed HTTP response")), "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := judgeHTTP("product-catalog", 0, nil, nil, c.err)
			require.Equal(t, judgement{Outcome: results.Failed, Class: c.class, Hop: "product-catalog", Error: c.err.Error()}, j)
		})
	}
}

func TestGRPCEndsAreClassified(t *testing.T) {
	pod := metadata.Pairs("x-shop-pod", "edge-1")
	behind := metadata.Pairs("x-shop-pod", "edge-1", "x-shop-hop", "a>b", "x-shop-failed-pod", "b-1")
	for _, c := range []struct {
		name    string
		err     error
		trailer metadata.MD
		want    judgement
	}{
		{"a success", nil, pod, judgement{0, "ok", "", "", "edge-1", "", ""}},
		{"not found", status.Error(codes.NotFound, "none"), pod, judgement{5, "rejected", "", "", "edge-1", "none", ""}},
		{"a precondition", status.Error(codes.FailedPrecondition, "sold out"), pod, judgement{9, "rejected", "", "", "edge-1", "sold out", ""}},
		{"not found, says somebody else", status.Error(codes.NotFound, "none"), nil, judgement{5, "failed", "grpc-NOT_FOUND", "svc", "", "none", ""}},
		{"no rule at the load balancer", status.Error(codes.Unimplemented, "404"), nil, judgement{12, "failed", "grpc-UNIMPLEMENTED", "svc", "", "404", ""}},
		{"denied by a policy", status.Error(codes.PermissionDenied, "no"), nil, judgement{7, "failed", "policy-denied", "svc", "", "no", ""}},
		{"denied behind the edge", status.Error(codes.PermissionDenied, "no"), behind, judgement{7, "failed", "policy-denied", "a>b", "b-1", "no", ""}},
		{"a failure behind the edge", status.Error(codes.Unavailable, "connection refused"), behind, judgement{14, "failed", "grpc-UNAVAILABLE", "a>b", "b-1", "connection refused", ""}},
		{"a deadline of ours", status.Error(codes.DeadlineExceeded, "late"), nil, judgement{4, "failed", "timeout", "svc", "", "late", ""}},
		{"a deadline of the shop's", status.Error(codes.DeadlineExceeded, "late"), pod, judgement{4, "failed", "grpc-DEADLINE_EXCEEDED", "svc", "edge-1", "late", ""}},
		{"refused", status.Error(codes.Unavailable, "dial tcp: connect: connection refused"), nil, judgement{14, "failed", "connect-refused", "svc", "", "dial tcp: connect: connection refused", ""}},
		{"reset", status.Error(codes.Unavailable, "read: connection reset by peer"), nil, judgement{14, "failed", "reset", "svc", "", "read: connection reset by peer", ""}},
		{"closed", status.Error(codes.Unavailable, "error reading from server: EOF"), nil, judgement{14, "failed", "eof", "svc", "", "error reading from server: EOF", ""}},
		{"TLS", status.Error(codes.Unavailable, "authentication handshake failed"), nil, judgement{14, "failed", "tls", "svc", "", "authentication handshake failed", ""}},
		{"unavailable for no known reason", status.Error(codes.Unavailable, "503"), nil, judgement{14, "failed", "grpc-UNAVAILABLE", "svc", "", "503", ""}},
		{"internal", status.Error(codes.Internal, "oops"), pod, judgement{13, "failed", "grpc-INTERNAL", "svc", "edge-1", "oops", ""}},
		{"an unknown code", status.Error(codes.Code(99), "?"), nil, judgement{99, "failed", "grpc-99", "svc", "", "?", ""}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, judgeGRPC("svc", c.err, c.trailer)) })
	}
}

func TestTheWayThatTheShopTellsIsKept(t *testing.T) {
	const way = "~5d-a@worker/v1:1500(postgres:20:500)"
	for line, want := range map[string]string{way: way, "": "", "nonsense": "", way + ")": "", way[:9]: ""} {
		require.Equal(t, want, judgeHTTP("svc", 200, fromPod("x-shop-hops", line), nil, nil).Hops)
		require.Equal(t, want, judgeHTTP("svc", 503, fromPod("x-shop-hops", line), nil, nil).Hops, "of failures, too")
		require.Equal(t, want, judgeGRPC("svc", status.Error(codes.Unavailable, ""), metadata.Pairs("x-shop-hops", line)).Hops)
	}
}

func FuzzJudgeHTTP(f *testing.F) {
	f.Add(503, []byte(`{"error":"x","code":"unavailable","hop":"a>b","pod":"b-1"}`), true)
	f.Add(409, []byte(`{"error":7}`), true)
	f.Add(404, []byte("<html>"), false)
	f.Add(-1, []byte{0xff}, false)
	f.Fuzz(func(t *testing.T, code int, body []byte, shop bool) {
		h := http.Header{}
		if shop {
			h = fromPod()
		}
		j := judgeHTTP("svc", code, h, body, nil)
		if (j.Outcome == results.Failed) != (j.Class != "") {
			t.Fatalf("outcome %q with class %q", j.Outcome, j.Class)
		}
		if j.Outcome == results.Rejected && !shop {
			t.Fatal("a business answer that is not the shop's")
		}
		if len(j.Error) > errorLimit+len("…") {
			t.Fatalf("an error of %d bytes", len(j.Error))
		}
	})
}

func TestOnlyLoopbackIsReached(t *testing.T) {
	require.NoError(t, checkAddress("HTTP", "127.0.0.1:8080"))
	for _, bad := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:http", "127.0.0.1:70000",
		"localhost:80", "10.0.0.1:80", "shop.example:80", "[::1]:80", ":80", "0.0.0.0:80", "127.0.0.1.example:80"} {
		err := checkAddress("HTTP", bad)
		require.Error(t, err, bad)
		require.Equal(t, fault.Invalid, fault.KindOf(err), bad)
	}
	_, err := dialOnly()(t.Context(), "tcp", "192.0.2.1:80")
	require.ErrorIs(t, err, errForeign)
}

func FuzzCheckAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "127.0.0.1:0", "[127.0.0.1]:80", "a:b:c", "%2e:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		if checkAddress("x", addr) == nil && !strings.HasPrefix(addr, "127.0.0.1:") && !strings.HasPrefix(addr, "[127.0.0.1]:") {
			t.Fatalf("accepted %q", addr)
		}
	})
}
