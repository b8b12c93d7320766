package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawServer answers each request with the bytes that answer makes of its head,
// and hands the head to the test.
func rawServer(answer string, heads chan<- []string) func(net.Listener) func() {
	return func(l net.Listener) func() {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					r := textproto.NewReader(bufio.NewReader(c))
					for {
						var head []string
						for {
							line, err := r.ReadLine()
							if err != nil {
								return
							}
							if line == "" {
								break
							}
							head = append(head, line)
						}
						heads <- head
						_, _ = io.WriteString(c, answer)
					}
				}()
			}
		}()
		return func() { l.Close() }
	}
}

// rawPair sends bytes through two proxies to a server that answers with bytes.
func rawPair(t *testing.T, answer string) (c net.Conn, r *bufio.Reader, heads chan []string) {
	w := newWorld(t)
	heads = make(chan []string, 4)
	p := w.startPod("web", podSpec{meshed: true, serve: rawServer(answer, heads)})
	vip, _ := w.service("10.96.0.1:80", p)
	c, err := w.sidecar("client").dial(short(t), vip)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c), heads
}

// valuesOf are the lines of a head by name, in order.
func valuesOf(head []string) map[string][]string {
	out := map[string][]string{}
	for _, line := range head[1:] {
		name, value, _ := strings.Cut(line, ": ")
		out[strings.ToLower(name)] = append(out[strings.ToLower(name)], value)
	}
	return out
}

func TestARequestsHeadersPassButForThoseOfOneConnectionAndTheMeshsOwn(t *testing.T) {
	c, _, heads := rawPair(t, "HTTP/1.1 204 No Content\r\n\r\n")
	_, err := io.WriteString(c, "DELETE //a/../b?x=%20&&y HTTP/1.1\r\nHost: shop.example:8080\r\n"+
		"X-Many: one\r\nx-other:  spaced \r\nX-MANY: two, three\r\nX-Empty:\r\nx-many: one\r\n"+
		"Connection: close, X-Hop\r\nX-Hop: mine\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\n"+
		"Accept-Encoding: br\r\nCookie: a=1; b=2\r\nCookie: c=3\r\nAuthorization: Bearer xyz\r\nX-Forwarded-For: 1.2.3.4\r\n"+
		"L5d-Client-Id: forged\r\nl5d-dst-canonical: forged\r\nTraceparent: 00-1-2-01\r\n\r\n")
	require.NoError(t, err)
	head := <-heads
	require.Equal(t, "DELETE //a/../b?x=%20&&y HTTP/1.1", head[0])
	require.Equal(t, map[string][]string{
		"host": {"shop.example:8080"}, "x-many": {"one", "two, three", "one"}, "x-other": {"spaced"}, "x-empty": {""},
		"te": {"trailers"}, "accept-encoding": {"br"}, "cookie": {"a=1; b=2", "c=3"}, "authorization": {"Bearer xyz"},
		"x-forwarded-for": {"1.2.3.4"}, "traceparent": {"00-1-2-01"}, "l5d-client-id": {identityOf("client")},
	}, valuesOf(head))
}

func TestAResponsesHeadersPassButForThoseOfOneConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		method, answer, status string
		want                   map[string][]string
	}{
		"with a body": {"GET", "HTTP/1.1 200 Fine\r\nX-Many: one\r\nSet-Cookie: a=1\r\nx-many: two\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: mine\r\n" +
			"Keep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK",
			map[string][]string{"x-many": {"one", "two"}, "set-cookie": {"a=1", "b=2"}, "content-length": {"2"}}},
		"to HEAD, with the length of what is not sent": {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \"x\"\r\n\r\n", "HTTP/1.1 200 OK",
			map[string][]string{"content-length": {"12345"}, "etag": {`"x"`}}},
		"not modified": {"GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n", "HTTP/1.1 304 Not Modified",
			map[string][]string{"etag": {`"x"`}, "date": {"Mon, 01 Jan 2024 00:00:00 GMT"}}},
		"an error of the server's own": {"GET", "HTTP/1.1 599 Own\r\nServer: mine\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 599 status code 599",
			map[string][]string{"server": {"mine"}, "content-length": {"0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c, r, heads := rawPair(t, tc.answer)
			_, err := io.WriteString(c, tc.method+" / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			<-heads
			var head []string
			lines := textproto.NewReader(r)
			for {
				line, err := lines.ReadLine()
				require.NoError(t, err)
				if line == "" {
					break
				}
				head = append(head, line)
			}
			require.Equal(t, tc.status, head[0])
			require.Equal(t, tc.want, valuesOf(head))
		})
	}
}

func TestAnOldClientAndOneThatExpectsToBeAskedAreServed(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		_ = http.NewResponseController(w).Flush() // of unknown length
	}))})
	vip, _ := w.service("10.96.0.1:80", p)
	s := w.sidecar("client")
	t.Run("HTTP/1.0", func(t *testing.T) {
		c, err := s.dial(short(t), vip)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nold")
		require.NoError(t, err)
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		head, body, _ := strings.Cut(string(all), "\r\n\r\n")
		require.True(t, strings.HasPrefix(head, "HTTP/1.0 200 "), head)
		require.NotContains(t, head, "chunked")
		require.Equal(t, "old", body)
	})
	t.Run("Expect: 100-continue", func(t *testing.T) {
		c, err := s.dial(short(t), vip)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
		_, err = r.ReadString('\n')
		require.NoError(t, err)
		_, err = io.WriteString(c, "body")
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "body", string(body))
	})
}

func TestAGRPCAnswerOfTrailersOnlyStaysOneFrame(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true})
	vip, _ := w.service("10.96.0.1:9090", p)
	c, err := w.sidecar("client").dial(short(t), vip)
	require.NoError(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.WriteString(c, http2.ClientPreface)
	require.NoError(t, err)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, f.WriteSettings())
	require.NoError(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: encode([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/no.Such/Method"}, {Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	})}))
	for {
		frame, err := f.ReadFrame()
		require.NoError(t, err)
		h, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		got := map[string]string{}
		for _, field := range h.Fields {
			got[field.Name] = field.Value
		}
		require.True(t, h.StreamEnded())
		require.Equal(t, "12", got["grpc-status"])
		require.Equal(t, "200", got[":status"])
		require.NotContains(t, got, "content-length")
		return
	}
}

// endless makes bytes and counts those that were taken.
type endless struct {
	left  int64 // below 0 it has no end
	taken atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left >= 0 {
		rest := e.left - e.taken.Load()
		if rest == 0 {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), rest)]
	}
	for i := range p {
		p[i] = byte(i)
	}
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// peak is the most memory that is in use until stop is called.
func peak() (stop func() uint64) {
	runtime.GC()
	done, over := make(chan struct{}), make(chan uint64)
	go func() {
		var m runtime.MemStats
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
			select {
			case <-done:
				over <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-over
	}
}

func TestABodyFarLargerThanTheMemoryPassesBothWays(t *testing.T) {
	const size = 256 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		c.Timeout = 0
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		stop := peak()
		res, err := c.Post("http://x/", "application/octet-stream", &endless{left: size})
		require.NoError(t, err)
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.Less(t, stop()-(m.HeapInuse+m.StackInuse), uint64(size/8))
	})
}

// settled waits until a count stands still, and gives it.
func settled(t *testing.T, count func() int64) int64 {
	t.Helper()
	last, since := int64(-1), time.Now()
	require.Eventually(t, func() bool {
		if now := count(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 400*time.Millisecond
	}, 20*time.Second, 20*time.Millisecond, "it goes on and on")
	return last
}

// mostInFlight is what buffers of four connections, kernels' and proxies', may
// hold of a body that nobody reads.
const mostInFlight = 24 << 20

func TestAServerThatDoesNotReadHoldsItsClientBack(t *testing.T) {
	release := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release })
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		body := &endless{left: -1}
		c.Timeout = 0
		done := make(chan struct{})
		req, err := http.NewRequest(http.MethodPost, "http://x/", body)
		require.NoError(t, err)
		req = req.WithContext(short(t))
		go func() {
			defer close(done)
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		got := settled(t, body.taken.Load)
		require.Positive(t, got)
		require.Less(t, got, int64(mostInFlight))
		c.CloseIdleConnections()
		<-done
	})
}

func TestAClientThatDoesNotReadHoldsItsServerBack(t *testing.T) {
	var written atomic.Int64
	piece := make([]byte, 32<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(piece)
			if err != nil {
				return
			}
			written.Add(int64(n))
		}
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		written.Store(0)
		c.Timeout = 0
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		got := settled(t, written.Load)
		require.Positive(t, got)
		require.Less(t, got, int64(mostInFlight))
		res.Body.Close()
	})
}

func TestARequestIsCountedAsItBeginsAndItsAnswerByItsFirstPiece(t *testing.T) {
	next := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "last")
	})
	both(t, h, func(t *testing.T, c *http.Client, p *pod, s *sidecar) {
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		defer res.Body.Close()
		_, err = io.ReadFull(res.Body, make([]byte, 5))
		require.NoError(t, err)
		for _, m := range []*sidecar{s, {metrics: p.metrics}} {
			require.Equal(t, map[string]float64{"true/": 1}, counted(t, m.metrics, "request_total"))
			require.Empty(t, counted(t, m.metrics, "response_total"))
		}
		time.Sleep(300 * time.Millisecond)
		next <- struct{}{}
		_, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(counted(t, p.metrics, "response_total")) == 1 }, 5*time.Second, 5*time.Millisecond)
		all, err := p.metrics.Gather()
		require.NoError(t, err)
		for _, f := range all {
			if f.GetName() == "response_latency_ms" {
				require.Less(t, f.Metric[0].Histogram.GetSampleSum(), 300.0, "to the first piece, not to the last")
			}
		}
	})
}

func TestAnIngresssRequestsGoWhereTheyNameAndTheRestStaysAsItIs(t *testing.T) {
	w := newWorld(t)
	named := w.startPod("named", podSpec{meshed: true, serve: web(hello)})
	vip, _ := w.service("10.96.0.7:80", named)
	dialled := w.startPod("dialled", podSpec{serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "dialled", r.Header["L5d-Dst-Override"])
	}))})
	s := w.ingress("ingress", map[string]string{"named.prod-app.svc.cluster.local": vip.Addr().String()})
	for _, isHTTP2 := range []bool{false, true} {
		c := httpClient(t, s, dialled.app, isHTTP2)
		ask := func(override string) (int, string) {
			req, err := http.NewRequest(http.MethodGet, "http://x/", nil)
			require.NoError(t, err)
			if override != "" {
				req.Header.Set("l5d-dst-override", override)
			}
			res, err := c.Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			return res.StatusCode, string(body)
		}
		status, body := ask("")
		require.Equal(t, "200 dialled[]", fmt.Sprint(status, " ", body))
		status, body = ask("named.prod-app.svc.cluster.local:80")
		require.Equal(t, "200 hello", fmt.Sprint(status, " ", body))
		for _, bad := range []string{"nowhere.svc.cluster.local:80", "named.prod-app.svc.cluster.local", "named.prod-app.svc.cluster.local:0"} {
			status, _ = ask(bad)
			require.Equal(t, http.StatusBadGateway, status, bad)
		}
	}
	require.Equal(t, map[string]float64{"no_identity/ingress_without_override": 2, "true/": 2}, counted(t, s.metrics, "request_total"))
	require.Equal(t, map[string]float64{"unexpected": 6}, labelled(t, s.metrics, "outbound_http_errors_total", "error"))

	// What is no HTTP is left as it is too.
	db := w.startPod("db", podSpec{serve: greeter})
	conn, err := s.dial(short(t), db.app)
	require.NoError(t, err)
	talk(t, conn)
}

func TestRequestsOfOneConnectionAreSpreadAndSlowServersGetFewer(t *testing.T) {
	w := newWorld(t)
	var pods []*pod
	served := make([]atomic.Int64, 4)
	for i := range served {
		pods = append(pods, w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			served[i].Add(1)
			if i == 3 {
				time.Sleep(30 * time.Millisecond)
			}
		}))}))
	}
	vip, _ := w.service("10.96.0.1:80", pods...)
	for _, isHTTP2 := range []bool{false, true} {
		for i := range served {
			served[i].Store(0)
		}
		c := httpClient(t, w.sidecar("client"), vip, isHTTP2)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 60 {
					res, err := c.Get("http://x/")
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
				}
			})
		}
		wg.Wait()
		for i := range 3 {
			require.Greater(t, served[i].Load(), 20*served[3].Load()/10, "%d of the fast ones", i)
		}
	}
}
