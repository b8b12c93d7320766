package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/transport"
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
		plain := &http.Transport{Protocols: &http.Protocols{}}
		plain.Protocols.SetHTTP1(!isHTTP2)
		plain.Protocols.SetUnencryptedHTTP2(isHTTP2)
		for _, c := range []*http.Client{meshed, {Transport: plain, Timeout: 10 * time.Second}} {
			res, err := c.Get("http://" + s.p.front().String() + "/honest")
			require.NoError(s.t, err)
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			require.NoError(s.t, err)
			require.Equal(s.t, http.StatusOK, res.StatusCode)
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
	require.Less(s.t, heap(), s.heap+32<<20)
}

func TestAnHonestClientIsServedWhileConnectionsThatSayLittleFloodIn(t *testing.T) {
	for name, words := range map[string]string{
		"nothing at all":             "",
		"half a request line":        "GET / HT",
		"half a head":                "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"half of HTTP/2's preface":   "PRI * HTTP/2.0\r\n",
		"HTTP/2's preface alone":     http2.ClientPreface,
		"half a TLS hello":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a TLS record of garbage":    "\x16\x03\x01\x00\x05garbage",
		"one request, then nothing":  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"half of a second head":      "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET",
		"bytes of no known protocol": "\x00\x01\x02\x03",
	} {
		t.Run(name, func(t *testing.T) {
			s := besiege(t, hello)
			for i := range 300 {
				s.attacker(words)
				if i%100 == 99 {
					s.honest()
				}
			}
			s.bounded()
			require.Positive(t, labelled(t, s.p.metrics, "inbound_tcp_errors_total", "error")["loadshed"], "what had to give way is counted")
		})
	}
}

func TestAFloodOfTwoThousandConnectionsLeavesTheHonestClientAlone(t *testing.T) {
	s := besiege(t, hello)
	// The honest client's connection from before the flood stays as well.
	old, err := s.client.dial(short(t), s.vip)
	require.NoError(t, err)
	defer old.Close()
	for i := range 2000 {
		s.attacker("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
		if i%500 == 499 {
			s.honest()
		}
	}
	s.bounded()
}

func TestHandshakesThatAreNeverFinishedAreBounded(t *testing.T) {
	s := besiege(t, hello)
	cfg := s.client.creds.Client(identityOf("web"))
	for range 200 {
		c := s.attacker("")
		// The hello is whole, the rest of the handshake never comes: what the
		// client reads is thrown away, so that it can answer nothing.
		go func() { _ = tls.Client(deaf{c}, cfg).Handshake() }()
	}
	s.honest()
	s.bounded()
}

// deaf hears nothing.
type deaf struct{ net.Conn }

func (d deaf) Read([]byte) (int, error) {
	_, err := io.Copy(io.Discard, d.Conn)
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

// refusal is how a head that is too long may end.
const refusal = "^(431|GOAWAY (PROTOCOL|COMPRESSION)_ERROR)$"

func TestHeadsThatAreTooLongAreRefused(t *testing.T) {
	s := besiege(t, hello)
	long := strings.Repeat("x", 200<<10)
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := s.attacker("")
		go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "+long+"\r\n\r\n") }()
		got, _ := io.ReadAll(c)
		require.Contains(t, string(got), "431 Request Header Fields Too Large")
	})
	t.Run("HTTP/2", func(t *testing.T) {
		for range 50 {
			f := s.frames()
			block := encode(append(request("/"), hpack.HeaderField{Name: "x-long", Value: long}))
			s.headers(f, 1, block, false)
			require.Regexp(t, refusal, f.status(1))
		}
	})
	t.Run("HPACK that grows when it is unpacked", func(t *testing.T) {
		f := s.frames()
		// One long field goes into the table; each byte that follows names it.
		block := encode(append(request("/"), hpack.HeaderField{Name: "x-bomb", Value: long[:3000]}))
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 16<<10)...)
		s.headers(f, 1, block, false)
		require.Regexp(t, refusal, f.status(1))
	})
	s.honest()
	s.bounded()
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

func TestAStreamOfContinuationsIsCutOff(t *testing.T) {
	s := besiege(t, hello)
	for range 20 {
		f := s.frames()
		field := encode([]hpack.HeaderField{{Name: "x-more", Value: strings.Repeat("y", 1000), Sensitive: true}})
		s.headers(f, 1, encode(request("/")), true)
		go func() { _, _ = io.Copy(io.Discard, f.c) }()
		sent := 0
		for f.WriteContinuation(1, false, field) == nil {
			sent += len(field)
			require.Less(t, sent, 64<<20, "the proxy goes on reading")
		}
	}
	s.honest()
	s.bounded()
}

func TestStreamsThatAreResetAtOnceMakeNoMoreWorkThanTheLimits(t *testing.T) {
	var work gauge
	s := besiege(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer work.enter()()
		if r.URL.Path != "/honest" {
			select { // as long as the client seems to want it
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}
		_, _ = io.WriteString(w, "done")
	}))
	for range 5 {
		f := s.frames()
		go func() { _, _ = io.Copy(io.Discard, f.c) }()
		block := encode(request("/reset"))
		for i := range 20_000 {
			stream := uint32(2*i + 1)
			s.headers(f, stream, block, false)
			if f.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
				break
			}
		}
	}
	s.honest()
	s.bounded()
	require.LessOrEqual(t, work.most(), narrow.requests)
}

func TestClientsThatReadNothingOfWhatTheyAskForHoldUpNobody(t *testing.T) {
	piece := make([]byte, 64<<10)
	var work gauge
	s := besiege(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer work.enter()()
		n := 1
		if r.URL.Path != "/honest" {
			n = 1000
		}
		for range n {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	for range 4 {
		f := s.frames(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for i := range 50 {
			s.headers(f, uint32(2*i+1), encode(request("/big")), false)
		}
	}
	for range 10 {
		s.attacker("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	require.Eventually(t, func() bool { return work.most() >= narrow.requests/2 }, 10*time.Second, 5*time.Millisecond)
	s.honest()
	s.bounded()
	require.LessOrEqual(t, work.most(), narrow.requests/2+4, "one address gets half of what there is")
}

func TestBodiesThatComeByTheDropHoldUpNobody(t *testing.T) {
	s := besiege(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	}))
	for range 200 {
		s.attacker("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
	}
	s.honest()
	s.bounded()
	require.Positive(t, labelled(t, s.p.metrics, "inbound_http_errors_total", "error")["loadshed"])
}

func TestPingsThatAreNeverReadEndTheConnection(t *testing.T) {
	s := besiege(t, hello)
	f := s.frames()
	_ = f.c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	ended := false
	for range 2_000_000 {
		if err := f.WritePing(false, [8]byte{1}); err != nil {
			ended = true
			break
		}
	}
	require.True(t, ended)
	s.honest()
	s.bounded()
}

func TestGarbageHarmsNobody(t *testing.T) {
	s := besiege(t, hello)
	for i := range 200 {
		b := make([]byte, 600)
		_, _ = rand.Read(b)
		if i%2 == 0 {
			copy(b, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		}
		s.attacker(string(b))
	}
	s.honest()
	s.bounded()
}

func TestOnlyAPeerThatProvesAnIdentityOfTheMeshIsTakenForOne(t *testing.T) {
	s := besiege(t, hello)
	mesh, stranger := s.p.w.ca, newWorld(t).ca
	good := mesh.Leaf(t, identityOf("client"), time.Hour)
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
		"a certificate of another mesh": func(c *tls.Config) {
			*c = *withLeaf(c, stranger.Leaf(t, identityOf("client"), time.Hour))
		},
		"a certificate that has expired": func(c *tls.Config) {
			*c = *withLeaf(c, mesh.Leaf(t, identityOf("client"), -time.Second))
		},
		"a certificate of a key that it has not": func(c *tls.Config) {
			forged := *good
			forged.PrivateKey = mesh.Leaf(t, identityOf("client"), time.Hour).PrivateKey
			*c = *withLeaf(c, &forged)
		},
		"TLS 1.2": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"another curve than P-256": func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.X25519}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.client.creds.Client(identityOf("web"))
			change(cfg)
			c := tls.Client(s.attacker(""), cfg)
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			// TLS 1.3's server verifies after the client has finished: the refusal
			// comes with the first read.
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			got, err := io.ReadAll(c)
			require.Error(t, err)
			require.Empty(t, got)
		})
	}
	require.Equal(t, map[string]float64{"true/": 2, "no_identity/loopback": 2}, s.allowed(), "only the honest ones came in")
	s.honest()
	s.bounded()
}

func (s *siege) allowed() map[string]float64 {
	return counted(s.t, s.p.metrics, "inbound_http_authz_allow_total")
}

func withLeaf(c *tls.Config, leaf *tls.Certificate) *tls.Config {
	c = c.Clone()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return leaf, nil }
	return c
}

func TestNoPortOfTheProxyItselfIsReachedByAHeaderInFrontOfBytes(t *testing.T) {
	s := besiege(t, hello)
	c := tls.Client(s.attacker(""), s.client.creds.Client(identityOf("web"), meshtls.TransportProtocol))
	require.NoError(t, transport.WriteHeader(c, 1)) // the world's inbound port
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	s.honest()
}
