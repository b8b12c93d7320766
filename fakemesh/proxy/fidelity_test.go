package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
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
