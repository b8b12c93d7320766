package alb

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheBalancerFollowsTheCluster(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2")
	var sick atomic.Bool
	for i, name := range []string{"a", "b"} {
		serveOn(t, doors[i], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" && name == "b" && sick.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = io.WriteString(w, name)
		}))
	}
	ctx := t.Context()
	s := start(t, time.Second)
	status, _ := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 404, status, "no ingress yet")

	_, err := s.client.CoreV1().Services("prod-app").Create(ctx, testService("shop", testPort("http", 8080, port)), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.client.NetworkingV1().Ingresses("prod-app").Create(ctx, restIngress(), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(s.Groups()) == 1 }, 5*time.Second, 5*time.Millisecond)
	status, _ = get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 503, status, "no node yet")

	nodes := s.client.CoreV1().Nodes()
	for i, name := range []string{"a", "b"} {
		_, err := nodes.Create(ctx, testNode(name, fmt.Sprintf("127.0.0.%d", i+1)), metav1.CreateOptions{})
		require.NoError(t, err)
		s.awaitHealth(t, name, "healthy")
	}
	require.Equal(t, map[string]int{"a": 3, "b": 3}, s.spread(t, 6))

	sick.Store(true)
	s.awaitHealth(t, "b", "unhealthy")
	require.Equal(t, map[string]int{"a": 4}, s.spread(t, 4))
	sick.Store(false)
	s.awaitHealth(t, "b", "healthy")
	require.Equal(t, map[string]int{"a": 2, "b": 2}, s.spread(t, 4))

	cordoned := testNode("a", "127.0.0.1")
	cordoned.Spec.Unschedulable = true
	_, err = nodes.Update(ctx, cordoned, metav1.UpdateOptions{})
	require.NoError(t, err)
	s.awaitHealth(t, "a", "none")
	require.Equal(t, map[string]int{"b": 4}, s.spread(t, 4))
	require.NoError(t, nodes.Delete(ctx, "b", metav1.DeleteOptions{}))
	s.awaitHealth(t, "b", "none")

	require.NoError(t, s.client.NetworkingV1().Ingresses("prod-app").Delete(ctx, "rest", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return len(s.Groups()) == 0 }, 5*time.Second, 5*time.Millisecond)
}

// spread counts who answers n requests.
func (s *sandbox) spread(t *testing.T, n int) map[string]int {
	out := map[string]int{}
	for range n {
		status, who := get(t, "http://"+s.http+"/api/who")
		require.Equal(t, 200, status)
		out[who]++
	}
	return out
}

// oneTarget starts a balancer with one node that h answers for.
func oneTarget(t *testing.T, timeout time.Duration, h http.HandlerFunc) *sandbox {
	t.Helper()
	port, doors := listenOn(t, "127.0.0.1")
	serveOn(t, doors[0], h)
	s := start(t, timeout, restIngress(), testService("shop", testPort("http", 8080, port)), testNode("a", "127.0.0.1"))
	s.awaitHealth(t, "a", "healthy")
	return s
}

func TestRequestsAndAnswersPassThroughWhole(t *testing.T) {
	var seen http.Header
	var host, body string
	s := oneTarget(t, time.Second, func(w http.ResponseWriter, r *http.Request) {
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
	require.Equal(t, "203.0.113.7, 127.0.0.1", seen.Get("X-Forwarded-For"))
	require.Equal(t, "http", seen.Get("X-Forwarded-Proto"))
	require.Equal(t, s.http[strings.LastIndex(s.http, ":")+1:], seen.Get("X-Forwarded-Port"))
	require.Regexp(t, `^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$`, seen.Get("X-Amzn-Trace-Id"))

	require.Eventually(t, func() bool { return len(s.access.entries(t)) == 1 }, 5*time.Second, time.Millisecond)
	e := s.access.entries(t)[0]
	require.Equal(t, seen.Get("X-Amzn-Trace-Id"), e.Trace)
	require.Equal(t, []any{HTTP, "POST", "/api/orders", 409, 409, int64(24), "a"},
		[]any{e.Listener, e.Method, e.Path, e.Status, e.TargetStatus, e.Sent, e.Node})
}

func TestAnswersAreStreamed(t *testing.T) {
	next := make(chan struct{})
	s := oneTarget(t, time.Second, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		if r.URL.Path != "/" {
			_ = http.NewResponseController(w).Flush()
			<-next
			_, _ = io.WriteString(w, "second\n")
		}
	})
	res, err := http.Get("http://" + s.http + "/api/stream")
	require.NoError(t, err)
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "first\n", line, "came while the answer was not finished")
	close(next)
	line, err = in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "second\n", line)
}

func TestTroubleWithTargetsHasAWSCodes(t *testing.T) {
	breakOff := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	nonsense := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "what?\r\n\r\n")
			_ = conn.Close()
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } // the bodies are empty
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"a target that breaks off", breakOff, 502},
		{"a target that speaks nonsense", nonsense, 502},
		{"a silent target", silent, 504},
		{"a target's own error passes", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			var calls atomic.Int32
			s := oneTarget(t, 200*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					calls.Add(1)
					c.answer(w, r)
				}
			})
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				calls.Store(0)
				req, err := http.NewRequest(method, "http://"+s.http+"/api/x", nil)
				require.NoError(t, err)
				req.Header.Set("Idempotency-Key", "k") // Go's transport takes it as leave to repeat
				res, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				res.Body.Close()
				require.Equal(t, c.status, res.StatusCode)
				require.Equal(t, int32(1), calls.Load(), "%s was sent once", method)
			}
		})
	}
}

func TestARefusingTargetIs502(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1")
	require.NoError(t, doors[0].Close())
	s := start(t, time.Second, restIngress(), testService("shop", testPort("http", 8080, port)), testNode("a", "127.0.0.1"))
	require.Eventually(t, func() bool { return s.healthOf("a") != "none" }, 5*time.Second, time.Millisecond)
	status, body := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 502, status)
	require.Contains(t, body, "502 Bad Gateway")
	require.Eventually(t, func() bool { return len(s.access.entries(t)) == 1 }, 5*time.Second, time.Millisecond)
	require.Contains(t, s.access.entries(t)[0].Error, "connection refused")
}

// A kept connection that the target closes under a request is not replaced by
// a second attempt, whatever the method.
func TestARequestIsNotRepeatedOnABrokenConnection(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			var calls atomic.Int32
			s := oneTarget(t, time.Second, func(w http.ResponseWriter, r *http.Request) {
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
	s := oneTarget(t, 5*time.Second, func(_ http.ResponseWriter, r *http.Request) {
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
	require.Eventually(t, func() bool { return len(s.access.entries(t)) == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, 460, s.access.entries(t)[0].Status)
}

func TestUnusedConnectionsToTargetsAreDroppedBeforeAPodWouldExit(t *testing.T) {
	for _, l := range []Listener{HTTP, GRPC} {
		transport := newTransport(l, time.Minute)
		require.Less(t, transport.IdleConnTimeout, 3*time.Second+1)
		require.Positive(t, transport.IdleConnTimeout)
	}
}

func TestTheAdminPageSaysWhenItIsReady(t *testing.T) {
	b := New(Options{Log: slog.New(slog.DiscardHandler)})
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	require.Equal(t, 503, ask("/-/ready").Code)
	b.watcher.synced.Store(true)
	require.Equal(t, 200, ask("/-/ready").Code)
	require.JSONEq(t, "[]", ask("/-/targets").Body.String())
	g := newGroup(groupSpec{Key: "ns/s:1/http", Listener: HTTP})
	g.targets.Store(&[]*target{newTarget(node{"a", "10.0.0.1"}, 80)})
	b.table.live.Store(&routes{groups: map[string]*group{"ns/s:1/http": g}, rules: map[Listener][]rule{HTTP: {
		newRule("", prefixPath, "/a", "ns/s:1/http", ""), newRule("", prefixPath, "/b", "ns/s:1/http", "")}}})
	require.JSONEq(t, `[{"name":"ns/s:1/http","listener":"http","paths":["/a","/b"],
		"targets":[{"node":"a","address":"10.0.0.1:80","health":"initial","reason":"not checked yet"}]}]`, ask("/-/targets").Body.String())
}
