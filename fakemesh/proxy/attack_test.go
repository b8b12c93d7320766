package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/transport"
)

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
	entered, release := make(chan struct{}), make(chan struct{})
	s := besiege(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
		_, _ = io.WriteString(w, "hello")
	}))
	// What is in hand when the flood comes is finished.
	slow := make(chan error, 1)
	patient := httpClient(t, s.client, s.vip, false)
	patient.Timeout = 0
	go func() {
		res, err := patient.Get("http://x/slow")
		if err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		slow <- err
	}()
	<-entered
	for i := range 2000 {
		s.attacker("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
		if i%500 == 499 {
			s.honest()
		}
	}
	s.bounded()
	close(release)
	require.NoError(t, <-slow)
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

// laborious works for an attacker for as long as he seems to want it, and counts
// how many do.
func laborious(work *gauge) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer work.enter()()
		if r.URL.Path != "/honest" {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}
		_, _ = io.WriteString(w, "done")
	}
}

func TestStreamsThatAreResetAtOnceMakeNoMoreWorkThanTheLimits(t *testing.T) {
	var work gauge
	s := besiege(t, laborious(&work))
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
	t.Logf("%d at work at a time", work.most())
	require.LessOrEqual(t, work.most(), narrow.requests)
}

func TestConnectionsThatEndAtOnceMakeNoMoreWorkThanTheLimits(t *testing.T) {
	var work gauge
	s := besiege(t, laborious(&work))
	block := encode(request("/left"))
	for range 300 {
		f := s.frames()
		go func() { _, _ = io.Copy(io.Discard, f.c) }()
		for i := range 50 {
			s.headers(f, uint32(2*i+1), block, false)
		}
		if half, ok := f.c.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}
	s.honest()
	s.bounded()
	t.Logf("%d at work at a time", work.most())
	require.LessOrEqual(t, work.most(), narrow.requests)
	require.Eventually(t, func() bool { return heap() < s.heap+4<<20 }, 10*time.Second, 20*time.Millisecond, "nothing is kept of what has ended")
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

func TestNoPortOfTheProxyItselfIsReachedByAHeaderInFrontOfBytes(t *testing.T) {
	s := besiege(t, hello)
	c := tls.Client(s.attacker(""), s.client.creds.Client(identityOf("web"), meshtls.TransportProtocol))
	require.NoError(t, transport.WriteHeader(c, 1)) // the world's inbound port
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	s.honest()
}

func TestAConnectionAndARequestCostNoMoreThanIsReckoned(t *testing.T) {
	const conns, requests = 300, 150
	var waiting sync.WaitGroup
	release := make(chan struct{})
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waiting.Done()
			<-release
		}
	}))})
	cfg := w.sidecar("client").creds.Client(identityOf("web"))
	ask := func(path string) net.Conn {
		c, err := tls.Dial("tcp4", p.front().String(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		return c
	}
	answered := func(c net.Conn) {
		_, err := c.Read(make([]byte, 12))
		require.NoError(t, err)
	}
	answered(ask("/"))
	before := heap()
	for range conns {
		answered(ask("/"))
	}
	each := int64(heap()-before) / conns
	t.Logf("a connection: %d bytes, its client's half among them", each)
	require.Less(t, each, inflated(connectionBytes))

	before = heap()
	waiting.Add(requests)
	for range requests {
		ask("/wait")
	}
	waiting.Wait()
	each = int64(heap()-before) / requests
	t.Logf("a request with its connections: %d bytes, its client's and its server's among them", each)
	require.Less(t, each, inflated(connectionBytes+requestBytes))
	close(release)
}
