package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// web serves HTTP/1 and HTTP/2 in a pod.
func web(h http.Handler) func(net.Listener) func() {
	return func(l net.Listener) func() {
		s := &http.Server{Handler: h, Protocols: &http.Protocols{}}
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = s.Serve(l) }()
		return func() { _ = s.Close() }
	}
}

// httpClient dials vip through a client's proxy.
func httpClient(t testing.TB, s *sidecar, vip netip.AddrPort, isHTTP2 bool) *http.Client {
	tr := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, vip) },
		DisableCompression: true, Protocols: &http.Protocols{},
	}
	tr.Protocols.SetHTTP1(!isHTTP2)
	tr.Protocols.SetUnencryptedHTTP2(isHTTP2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func both(t *testing.T, h http.Handler, f func(t *testing.T, c *http.Client, p *pod, s *sidecar)) {
	for name, isHTTP2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.startPod("web", podSpec{meshed: true, serve: web(h)})
			vip, _ := w.service("10.96.0.1:80", p)
			s := w.sidecar("client")
			f(t, httpClient(t, s, vip, isHTTP2), p, s)
		})
	}
}

func TestHeadersPassAsTheyCameButForTheMeshsOwn(t *testing.T) {
	var got http.Header
	var uri, host string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, uri, host = r.Header.Clone(), r.RequestURI, r.Host
		w.Header()["Date"] = nil
		w.Header().Set("X-Answer", "42")
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("Content-Type", "text/x-own")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short")
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		req, err := http.NewRequest(http.MethodGet, "http://shop.example/a%2Fb/c;d?x=1;y=%zz&q", nil)
		require.NoError(t, err)
		req.Header = http.Header{
			"User-Agent": {"test/1"}, "X-Forwarded-For": {"1.2.3.4"}, "Forwarded": {"for=1.2.3.4"},
			"L5d-Client-Id": {"somebody else"}, "X-Two": {"1", "2"}, "Cookie": {"c=1"},
		}
		res, err := c.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "short", string(body))
		require.Equal(t, http.StatusTeapot, res.StatusCode)
		require.Equal(t, []string{"a=1", "b=2"}, res.Header["Set-Cookie"])
		require.Equal(t, "42", res.Header.Get("X-Answer"))
		require.Equal(t, "text/x-own", res.Header.Get("Content-Type"))
		require.Empty(t, res.Header.Get("Date"))
		require.EqualValues(t, 5, res.ContentLength)

		require.Equal(t, "/a%2Fb/c;d?x=1;y=%zz&q", uri)
		require.Equal(t, "shop.example", host)
		require.Equal(t, []string{identityOf("client")}, got["L5d-Client-Id"])
		got.Del("L5d-Client-Id")
		req.Header.Del("L5d-Client-Id")
		got.Del("Connection")
		require.Equal(t, req.Header, got)
	})
}

func TestARequestWithoutUserAgentGetsNone(t *testing.T) {
	var has bool
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, has = r.Header["User-Agent"] })
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		req, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
		req.Header["User-Agent"] = nil
		res, err := c.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.False(t, has)
	})
}

func TestBodiesOfAnySizePassBothWaysWithoutBeingGathered(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	big := make([]byte, 5<<20)
	_, _ = rand.Read(big)
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		res, err := c.Post("http://x/", "application/octet-stream", io.MultiReader(bytes.NewReader(big)))
		require.NoError(t, err)
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(big, got))
	})
}

func TestPiecesOfAResponseArriveAsTheyAreWritten(t *testing.T) {
	next := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "piece %d\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		for i := range 3 {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("piece %d\n", i), line)
			next <- struct{}{}
		}
	})
}

func TestTrailersPassBothWays(t *testing.T) {
	var got string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		got = r.Trailer.Get("X-Check")
		w.Header().Set("X-Sum", "7")
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		req, _ := http.NewRequest(http.MethodPost, "http://x/", io.MultiReader(strings.NewReader("body")))
		req.Trailer = http.Header{"X-Check": {"5"}}
		res, err := c.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "7", res.Trailer.Get("X-Sum"))
		require.Equal(t, "5", got)
	})
}

func TestAClientThatLeavesEndsItsRequestAtTheServer(t *testing.T) {
	ended := make(chan struct{}, 2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
		res, err := c.Do(req)
		require.NoError(t, err)
		cancel()
		res.Body.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("the server's request did not end")
		}
	})
}

func TestAResponseThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		require.Equal(t, "half", string(got))
		require.Error(t, err)
	})
}

func TestARequestThatMayHaveBeenProcessedIsNeverSentTwice(t *testing.T) {
	var seen atomic.Int64
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen.Add(1)
		panic(http.ErrAbortHandler)
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		seen.Store(0)
		res, err := c.Post("http://x/", "text/plain", strings.NewReader("pay 5"))
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusBadGateway, res.StatusCode)
		require.NotEmpty(t, res.Header.Get("L5d-Proxy-Error"))
		require.EqualValues(t, 1, seen.Load())
	})
}

func TestAConnectionCanBeUpgraded(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))})
	vip, _ := w.service("10.96.0.1:80", p)
	s := w.sidecar("client")
	c, err := s.dial(short(t), vip)
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	require.Equal(t, "echo", res.Header.Get("Upgrade"))
	for _, word := range []string{"hello\n", "again\n"} {
		_, err = io.WriteString(c, word)
		require.NoError(t, err)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, word, line)
	}
}

func TestManyRequestsShareAConnectionOneAfterAnother(t *testing.T) {
	var conns atomic.Int64
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: func(l net.Listener) func() {
		s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		}}
		go func() { _ = s.Serve(l) }()
		return func() { _ = s.Close() }
	}})
	vip, _ := w.service("10.96.0.1:80", p)
	s := w.sidecar("client")
	c := httpClient(t, s, vip, false)
	for range 20 {
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		res.Body.Close()
	}
	require.EqualValues(t, 1, conns.Load())
}

func TestDenialsAre403AndGRPC7AndAreCounted(t *testing.T) {
	outside := netip.MustParseAddr("172.20.0.9")
	w := newWorld(t)
	p := w.startPod("web", podSpec{
		meshed: true, policy: policy.AllAuthenticated, remote: outside, probes: []policy.Probe{{Path: "/healthz"}},
		serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "in") })),
	})
	get := func(path, contentType string) *http.Response {
		req, _ := http.NewRequest(http.MethodGet, "http://"+p.front().String()+path, nil)
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		res, err := c.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		return res
	}
	res := get("/orders", "")
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("L5d-Proxy-Error"))
	res = get("/shop.v1.Orders/Place", "application/grpc+proto")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "7", res.Header.Get("Grpc-Status"))
	require.Equal(t, http.StatusOK, get("/healthz", "").StatusCode, "a probe is let in")

	vip, _ := w.service("10.96.0.1:80", p)
	meshed, err := httpClient(t, w.sidecar("client"), vip, false).Get("http://x/orders")
	require.NoError(t, err)
	meshed.Body.Close()
	require.Equal(t, http.StatusOK, meshed.StatusCode, "a client with an identity is let in")

	require.Equal(t, map[string]float64{"no_identity/no_tls_from_remote": 2}, counted(t, p.metrics, "inbound_http_authz_deny_total"))
	require.Equal(t, map[string]float64{"no_identity/no_tls_from_remote": 1, "true/": 1}, counted(t, p.metrics, "inbound_http_authz_allow_total"))
}

func TestWithoutEndpointsRequestsFailAfterThreeSecondsThenAtOnce(t *testing.T) {
	w := newWorld(t)
	vip, d := w.service("10.96.0.1:80")
	s := w.sidecar("client")
	c := httpClient(t, s, vip, false)
	begin := time.Now()
	res, err := c.Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Contains(t, res.Header.Get("L5d-Proxy-Error"), "no endpoint")
	require.InDelta(t, 3, time.Since(begin).Seconds(), 0.7)

	begin = time.Now()
	res, err = c.Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Less(t, time.Since(begin), 500*time.Millisecond, "it fails fast by now")

	p := w.startPod("web", podSpec{serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))})
	d.add(p)
	require.Eventually(t, func() bool {
		res, err := c.Get("http://x/")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, time.Second, 10*time.Millisecond)
}

func TestARequestWaitsForTheFirstEndpoint(t *testing.T) {
	w := newWorld(t)
	vip, d := w.service("10.96.0.1:80")
	s := w.sidecar("client")
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))})
	time.AfterFunc(300*time.Millisecond, func() { d.add(p) })
	res, err := httpClient(t, s, vip, false).Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestADeadEndpointCostsNoRequest(t *testing.T) {
	w := newWorld(t)
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	alive := w.startPod("web", podSpec{meshed: true, serve: web(ok)})
	dead := w.startPod("web", podSpec{meshed: true, serve: web(ok)})
	vip, _ := w.service("10.96.0.1:80", alive, dead)
	dead.stopProxy(time.Second)
	for _, isHTTP2 := range []bool{false, true} {
		c := httpClient(t, w.sidecar("client"), vip, isHTTP2)
		for range 30 {
			res, err := c.Post("http://x/", "text/plain", strings.NewReader("body"))
			require.NoError(t, err)
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, "body", string(got))
		}
	}
}

func TestAPeerWithAnotherIdentityGetsNothing(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))})
	vip, d := w.service("10.96.0.1:80", p)
	// The pod proves to be web; discovery says that it must be payment.
	d.now.Endpoints[0].Identity = identityOf("payment")
	res, err := httpClient(t, w.sidecar("client"), vip, false).Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
}

func TestProxiesOfDifferentAnchorsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))})
	vip, _ := w.service("10.96.0.1:80", p)
	stranger := newWorld(t)
	stranger.dirs = w.dirs
	res, err := httpClient(t, stranger.sidecar("client"), vip, false).Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
}
