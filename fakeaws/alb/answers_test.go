package alb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestsAndAnswersPassThroughWhole(t *testing.T) {
	var seen http.Header
	var host, body string
	s := onePod(t, nil, toPods(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		data, _ := io.ReadAll(r.Body)
		seen, host, body = r.Header, r.Host, r.URL.RawQuery+" "+string(data)
		w.Header().Set("Trailer", "X-After")
		w.Header().Set("X-Shop-Pod", "orders-1")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"error":"out_of_stock"}`)
		w.Header().Set("X-After", "done")
	})
	req, err := http.NewRequest(http.MethodPost, "http://"+s.http+"/api/orders?a=1;b", strings.NewReader("{}"))
	require.NoError(t, err)
	req.Host = "shop.example"
	req.Header.Set("X-Forwarded-For", "203.0.113.7")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	require.Equal(t, 409, res.StatusCode)
	require.Equal(t, `{"error":"out_of_stock"}`, string(answer))
	require.Equal(t, "orders-1", res.Header.Get("X-Shop-Pod"))
	require.Equal(t, "done", res.Trailer.Get("X-After"))
	require.Equal(t, "shop.example", host)
	require.Equal(t, "a=1;b {}", body)
	port := s.http[strings.LastIndex(s.http, ":")+1:]
	require.Equal(t, "203.0.113.7, 127.0.0.1", seen.Get("X-Forwarded-For"))
	require.Equal(t, "http", seen.Get("X-Forwarded-Proto"))
	require.Equal(t, port, seen.Get("X-Forwarded-Port"))
	require.Empty(t, seen.Get("X-Forwarded-Host"))
	require.Regexp(t, `^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$`, seen.Get("X-Amzn-Trace-Id"))

	e := s.lastEntries(t, 1)[0]
	target := s.Groups()[0].Targets[0].Address
	for name, want := range (logged{
		"type": "http", "elb": s.table.owner.balancer(), "target:port": target, "elb_status_code": "409", "target_status_code": "409",
		"request": "POST http://shop.example:" + port + "/api/orders?a=1;b HTTP/1.1", "user_agent": "Go-http-client/1.1",
		"target_group_arn": s.Groups()[0].ARN, "trace_id": seen.Get("X-Amzn-Trace-Id"), "matched_rule_priority": "1",
		"actions_executed": "forward", "target:port_list": target, "target_status_code_list": "409",
	}) {
		require.Equal(t, want, e[name], name)
	}
	require.Regexp(t, `^app/shop/[0-9a-f]{16}$`, e["elb"])
	require.Regexp(t, `^arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/k8s-prodapp-shop-[0-9a-f]{10}/[0-9a-f]{16}$`, e["target_group_arn"])
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, e["client:port"])
	require.Regexp(t, `^TID_[0-9a-f]{32}$`, e["conn_trace_id"])
	for _, name := range []string{"request_processing_time", "target_processing_time", "response_processing_time"} {
		require.Regexp(t, `^0\.\d{3}$`, e[name], name)
	}
	created, err := time.Parse(timeFormat, e["request_creation_time"])
	require.NoError(t, err)
	ended, err := time.Parse(timeFormat, e["time"])
	require.NoError(t, err)
	require.False(t, ended.Before(created))
}

func TestTheBytesOfARequestAreCountedWithItsHead(t *testing.T) {
	s := onePod(t, nil, toPods(), func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	conn, err := net.Dial("tcp", s.http)
	require.NoError(t, err)
	defer conn.Close()
	request := "POST /api/x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\nX-Some: thing\r\n\r\nhello"
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 200, res.StatusCode)
	e := s.lastEntries(t, 1)[0]
	require.Equal(t, strconv.Itoa(len(request)), e["received_bytes"])
	require.Equal(t, "-", e["user_agent"])
}

func TestTroubleWithTargetsHasAWSCodes(t *testing.T) {
	hijack := func(w http.ResponseWriter) net.Conn {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		return conn
	}
	breakOff := func(w http.ResponseWriter, _ *http.Request) { _ = hijack(w).Close() }
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn := hijack(w)
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	nonsense := func(w http.ResponseWriter, _ *http.Request) {
		conn := hijack(w)
		_, _ = io.WriteString(conn, "what?\r\n\r\n")
		_ = conn.Close()
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } // the bodies are empty
	for _, c := range []struct {
		name         string
		answer       http.HandlerFunc
		status       int
		targetStatus string
	}{
		{"a target that breaks off", breakOff, 502, "-"},
		{"a target that resets the connection", reset, 502, "-"},
		{"a target that speaks nonsense", nonsense, 502, "-"},
		{"a target that is silent for the idle timeout", silent, 504, "-"},
		{"a target's own error passes", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 500, "500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls atomic.Int32
			s := onePod(t, idleAfter(200*time.Millisecond), toPods(), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					calls.Add(1)
					c.answer(w, r)
				}
			})
			for i, method := range []string{http.MethodGet, http.MethodPost} {
				calls.Store(0)
				req, err := http.NewRequest(method, "http://"+s.http+"/api/x", nil)
				require.NoError(t, err)
				req.Header.Set("Idempotency-Key", "k") // Go's transport takes it as leave to repeat
				res, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				res.Body.Close()
				require.Equal(t, c.status, res.StatusCode)
				require.Equal(t, int32(1), calls.Load(), "%s was sent once", method)
				e := s.lastEntries(t, i+1)[i]
				require.Equal(t, []string{strconv.Itoa(c.status), c.targetStatus, c.targetStatus, s.Groups()[0].Targets[0].Address},
					[]string{e["elb_status_code"], e["target_status_code"], e["target_status_code_list"], e["target:port"]})
				require.Regexp(t, `^0\.\d{3}$`, e["request_processing_time"], "it reached the target")
				if c.targetStatus == "-" {
					require.Equal(t, page(c.status), string(body))
					require.Equal(t, "awselb/2.0", res.Header.Get("Server"))
					require.Equal(t, "text/html", res.Header.Get("Content-Type"))
					require.Equal(t, []string{"-1", "-1"}, []string{e["target_processing_time"], e["response_processing_time"]})
				}
			}
		})
	}
}

func TestATargetThatRefusesIs502(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1")
	require.NoError(t, doors[0].Close())
	s := start(t, nil, restIngress(toPods("unhealthy-threshold-count", "4")), testService("shop", testPort("http", 8080, 0)),
		podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	require.Eventually(t, func() bool { return s.healthOf("shop-a") == "initial" }, 5*time.Second, time.Millisecond)
	status, body := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 503, status, "a target that was never in service is none")
	require.Equal(t, page(503), body)
	s.awaitHealth(t, "shop-a", "unhealthy")
	status, body = get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 502, status, "the load balancer fails open")
	require.Equal(t, page(502), body)

	for i, want := range []logged{
		{"target:port": "-", "elb_status_code": "503", "actions_executed": "forward", "request_processing_time": "-1"},
		{"target:port": s.Groups()[0].Targets[0].Address, "elb_status_code": "502", "request_processing_time": "-1", "target_processing_time": "-1"},
	} {
		e := s.lastEntries(t, 2)[i]
		for name, value := range want {
			require.Equal(t, value, e[name], name)
		}
		require.Equal(t, s.Groups()[0].ARN, e["target_group_arn"])
	}
	require.Eventually(t, func() bool { return strings.Contains(s.log.String(), "dial: connect: connection refused") }, 5*time.Second, 10*time.Millisecond,
		"the log says what the access log cannot")
}

func TestTargetsBehindTLS(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2")
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "secure") }))
	secure.Listener.Close()
	secure.Listener = doors[0]
	secure.StartTLS() // with a certificate that nobody knows
	t.Cleanup(secure.Close)
	serveOn(t, doors[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))

	notes := toPods("backend-protocol", "HTTPS")
	s := start(t, nil, restIngress(notes), testService("shop", testPort("http", 8080, 0)),
		podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	s.awaitHealth(t, "shop-a", "healthy")
	status, body := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 200, status)
	require.Equal(t, "secure", body)

	s.setPods(t, podsOf("http", port, pod{name: "shop-b", ip: "127.0.0.2", ready: true})) // which speaks no TLS
	s.awaitHealth(t, "shop-b", "unhealthy")
	status, _ = get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 502, status)
	require.Equal(t, "502", s.lastEntries(t, 2)[1]["elb_status_code"])
}

// A kept connection that the target closes under a request is not replaced by
// a second attempt, whatever the method.
func TestARequestIsNotRepeatedOnABrokenConnection(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			var calls atomic.Int32
			s := onePod(t, nil, toPods(), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/break" {
					calls.Add(1)
					conn, _, err := http.NewResponseController(w).Hijack()
					if err == nil {
						_ = conn.Close()
					}
				}
			})
			status, _ := get(t, "http://"+s.http+"/api/warm") // leaves a kept connection
			require.Equal(t, 200, status)
			req, err := http.NewRequest(method, "http://"+s.http+"/api/break", nil)
			require.NoError(t, err)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, 502, res.StatusCode)
			require.Equal(t, int32(1), calls.Load())
		})
	}
}

func TestAClientThatLeavesIsLogged460(t *testing.T) {
	arrived := make(chan struct{}, 1)
	s := onePod(t, nil, toPods(), func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/api/x", nil)
	require.NoError(t, err)
	go func() { <-arrived; cancel() }()
	_, err = http.DefaultClient.Do(req)
	require.ErrorIs(t, err, context.Canceled)
	e := s.lastEntries(t, 1)[0]
	require.Equal(t, []string{"460", "-", "0", "-1", "-1"},
		[]string{e["elb_status_code"], e["target_status_code"], e["sent_bytes"], e["target_processing_time"], e["response_processing_time"]})
}

func TestAClientThatStopsHalfWayIs408(t *testing.T) {
	s := onePod(t, idleAfter(200*time.Millisecond), toPods(), func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	conn, err := net.Dial("tcp", s.http)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /api/x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\nhalf")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, 408, res.StatusCode)
	require.True(t, res.Close)
	require.Equal(t, "408", s.lastEntries(t, 1)[0]["elb_status_code"])
}

func TestAnAnswerMayTakeLongAsLongAsItGoesOn(t *testing.T) {
	s := onePod(t, idleAfter(400*time.Millisecond), toPods(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		for range 8 { // twice the idle timeout
			_, _ = io.WriteString(w, ".")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	})
	status, body := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 200, status)
	require.Equal(t, "........", body)
}

func TestTooManyForwardsAre463(t *testing.T) {
	s := onePod(t, nil, toPods(), func(http.ResponseWriter, *http.Request) {})
	for i, c := range []struct{ addresses, want int }{{30, 200}, {31, 463}} {
		req, err := http.NewRequest(http.MethodGet, "http://"+s.http+"/api/x", nil)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-For", strings.TrimSuffix(strings.Repeat("10.0.0.1, ", c.addresses), ", "))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, c.want, res.StatusCode)
		require.Equal(t, strconv.Itoa(c.want), s.lastEntries(t, i+1)[i]["elb_status_code"])
	}
}

func TestPagesAreAsLongAsAWSs(t *testing.T) {
	require.Len(t, page(502), 122)
	require.Len(t, page(503), 162)
	require.Len(t, page(504), 132)
	require.Equal(t, "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n", page(504))
}

// slowness is a network error that says it is a timeout.
type slowness struct{}

func (slowness) Error() string   { return "i/o timeout" }
func (slowness) Timeout() bool   { return true }
func (slowness) Temporary() bool { return true }

func TestErrorsStandForCodes(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		name  string
		err   error
		cause error // of the exchange's end
		sent  bool  // all of the request
		want  int
	}{
		{"a connection that takes too long", dial(slowness{}), nil, true, 504},
		{"a machine that does not answer ARP", dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), nil, true, 504},
		{"a refused connection", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), nil, true, 502},
		{"a handshake that takes too long", &handshakeError{slowness{}}, nil, true, 502},
		{"a certificate that makes no sense", &handshakeError{tls.AlertError(40)}, nil, true, 502},
		{"an answer that ends early", io.ErrUnexpectedEOF, nil, true, 502},
		{"a silent target", context.Canceled, errIdle, true, 504},
		{"a silent client", context.Canceled, errIdle, false, 408},
		{"a deregistration delay that is over", context.Canceled, errDeregistered, true, 502},
		{"a client that has gone", context.Canceled, context.Canceled, true, 460},
		{"a client that has gone while the target was being dialled", dial(errors.New("operation was canceled")), context.Canceled, true, 460},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			if c.cause != nil {
				cancel(c.cause)
			}
			defer cancel(nil)
			x := &exchange{ctx: ctx}
			x.whole.Store(c.sent)
			require.Equal(t, c.want, x.statusOf(c.err))
		})
	}
}
