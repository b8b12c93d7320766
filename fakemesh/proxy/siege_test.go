package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// narrow are limits that an attack of a test can reach.
var narrow = limits{connections: 60, fresh: 30, requests: 40}

// siege is a meshed pod with narrow limits, and an honest client of it.
type siege struct {
	t          *testing.T
	p          *pod
	client     *sidecar
	vip        netip.AddrPort
	goroutines int
	heap       uint64
	open       []net.Conn
}

func besiege(t *testing.T, h http.Handler) *siege {
	t.Helper()
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, limits: narrow, serve: web(h)})
	s := &siege{t: t, p: p, client: w.sidecar("client")}
	s.vip, _ = w.service("10.96.0.1:80", p)
	s.honest()
	s.goroutines, s.heap = runtime.NumGoroutine(), heap()
	t.Cleanup(func() {
		for _, c := range s.open {
			c.Close()
		}
	})
	return s
}

// hello answers at once.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// attacker is one more connection to the pod's proxy, and what its first words
// were written with.
func (s *siege) attacker(words string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, 6, 6)}}
	c, err := d.Dial("tcp4", s.p.front().String())
	require.NoError(s.t, err)
	s.open = append(s.open, c)
	_, _ = io.WriteString(c, words) // it may have been closed by now
	return c
}

// honest asks by new connections, in the clear and by mutual TLS, in HTTP/1.1
// and in HTTP/2.
func (s *siege) honest() {
	s.t.Helper()
	for _, isHTTP2 := range []bool{false, true} {
		meshed := httpClient(s.t, s.client, s.vip, isHTTP2)
		meshed.Timeout = 30 * time.Second
		plain := &http.Transport{Protocols: &http.Protocols{}}
		plain.Protocols.SetHTTP1(!isHTTP2)
		plain.Protocols.SetUnencryptedHTTP2(isHTTP2)
		for _, c := range []*http.Client{meshed, {Transport: plain, Timeout: 30 * time.Second}} {
			res, err := c.Get("http://" + s.p.front().String() + "/honest")
			require.NoError(s.t, err)
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			require.NoError(s.t, err)
			require.Equalf(s.t, http.StatusOK, res.StatusCode, "HTTP/2: %t, %s", isHTTP2, res.Header.Get("L5d-Proxy-Error"))
			require.NotEmpty(s.t, body)
			c.CloseIdleConnections()
		}
	}
}

// bounded holds what the attack made the process hold against its limits.
func (s *siege) bounded() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.p.acc.Open() <= narrow.connections }, 5*time.Second, 5*time.Millisecond)
	// A connection takes a few goroutines, a request too; the test's own
	// clients are counted with them.
	most := s.goroutines + 4*narrow.connections + 8*narrow.requests
	require.Eventually(s.t, func() bool { return runtime.NumGoroutine() <= most }, 10*time.Second, 20*time.Millisecond, "%d goroutines at first", s.goroutines)
	// What was read already may wait to be refused: net/http queues it.
	require.Eventually(s.t, func() bool { return heap() < s.heap+32<<20 }, 10*time.Second, 20*time.Millisecond, "%d bytes at first", s.heap)
}

// attackFrames is an HTTP/2 connection whose every frame is the attacker's.
type attackFrames struct {
	*http2.Framer
	t *testing.T
	c net.Conn
}

func (s *siege) frames(settings ...http2.Setting) *attackFrames {
	s.t.Helper()
	c := s.attacker(http2.ClientPreface)
	f := &attackFrames{http2.NewFramer(c, c), s.t, c}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(s.t, f.WriteSettings(settings...))
	return f
}

// status reads until the stream's head, or how it or the connection ended.
func (f *attackFrames) status(stream uint32) string {
	f.t.Helper()
	_ = f.c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "the connection's end"
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.StreamID == stream {
				return frame.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return frame.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return "GOAWAY " + frame.ErrCode.String()
			}
		}
	}
}

func request(path string) []hpack.HeaderField {
	return []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: path}}
}

func encode(fields []hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range fields {
		_ = e.WriteField(f)
	}
	return b.Bytes()
}

// headers writes a block in as many frames as it takes.
func (s *siege) headers(f *attackFrames, stream uint32, block []byte, endless bool) {
	const piece = 16 << 10
	first := block[:min(len(block), piece)]
	block = block[len(first):]
	if f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: true, EndHeaders: len(block) == 0 && !endless}) != nil {
		return
	}
	for len(block) > 0 {
		next := block[:min(len(block), piece)]
		block = block[len(next):]
		if f.WriteContinuation(stream, len(block) == 0 && !endless, next) != nil {
			return
		}
	}
}

func (s *siege) allowed() map[string]float64 {
	return counted(s.t, s.p.metrics, "inbound_http_authz_allow_total")
}

func withLeaf(c *tls.Config, leaf *tls.Certificate) *tls.Config {
	c = c.Clone()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return leaf, nil }
	return c
}

// gauge counts what goes on at a time, and the most of it.
type gauge struct {
	mu        sync.Mutex
	now, peak int
}

func (g *gauge) enter() (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now++
	g.peak = max(g.peak, g.now)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.now--
	}
}

func (g *gauge) most() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peak
}
