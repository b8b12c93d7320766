package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
)

// greeter speaks first, then answers each line, and ends when the client does.
func greeter(l net.Listener) func() {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, "hello\n")
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						_, _ = io.WriteString(c, "bye\n")
						return
					}
					_, _ = io.WriteString(c, "you said "+line)
				}
			}()
		}
	}()
	return func() { l.Close() }
}

// talk is a whole conversation with a greeter; it ends by a half close.
func talk(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	r := bufio.NewReader(c)
	expect := func(want string) {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
	expect("hello\n")
	_, err := io.WriteString(c, "a\n")
	require.NoError(t, err)
	expect("you said a\n")
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	expect("bye\n")
	_, err = r.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func TestOpaqueBytesGoByMutualTLSWithoutWaitingForAFirstWord(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("db", podSpec{meshed: true, serve: greeter})
	vip, d := w.service("10.96.0.1:5432")
	d.set(&meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Opaque: true, Endpoints: []*meshapi.Endpoint{{
		Ip: p.ip, Port: uint32(p.app.Port()), Identity: identityOf("db"), Opaque: true,
	}}})
	s := w.sidecarWith("client", func(o *outbound.Options) { o.InboundPort = addrOf(p.proxyL).Port() })
	begin := time.Now()
	c, err := s.dial(short(t), vip)
	require.NoError(t, err)
	talk(t, c)
	require.Less(t, time.Since(begin), 900*time.Millisecond, "nothing waited for detection")
	require.Equal(t, map[string]float64{"true/": 1}, counted(t, p.metrics, "inbound_tcp_authz_allow_total"))
}

func TestServersThatSpeakFirstNeedAnOpaquePortOrTheTimeout(t *testing.T) {
	for name, opaque := range map[string]bool{"opaque at once": true, "after the timeout": false} {
		for where, kind := range map[string]meshapi.Destinations_Kind{"a Service": meshapi.Destinations_SERVICE, "an address that nobody knows": meshapi.Destinations_UNKNOWN} {
			t.Run(name+", "+where, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				p := w.startPod("db", podSpec{serve: greeter})
				d := &meshapi.Destinations{Kind: kind, Opaque: opaque}
				if kind == meshapi.Destinations_SERVICE {
					d.Endpoints = []*meshapi.Endpoint{p.endpoint()}
				}
				w.directory(p.app).set(d)
				begin := time.Now()
				c, err := w.sidecar("client").dial(short(t), p.app)
				require.NoError(t, err)
				talk(t, c)
				require.Equal(t, opaque, time.Since(begin) < 900*time.Millisecond)
			})
		}
	}
}

func TestAServerWithAProxyThatSpeaksFirstWaitsForOneTimeoutNotTwo(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("db", podSpec{meshed: true, serve: greeter})
	vip, d := w.service("10.96.0.1:6432")
	d.set(&meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Endpoints: []*meshapi.Endpoint{{
		Ip: p.ip, Port: uint32(p.app.Port()), Identity: identityOf("db"),
	}}})
	s := w.sidecarWith("client", func(o *outbound.Options) { o.InboundPort = addrOf(p.proxyL).Port() })
	begin := time.Now()
	c, err := s.dial(short(t), vip)
	require.NoError(t, err)
	talk(t, c)
	require.InDelta(t, 1.4, time.Since(begin).Seconds(), 0.5, "one detection of a second")
	require.Equal(t, map[string]float64{"true/": 1}, counted(t, p.metrics, "inbound_tcp_authz_allow_total"))
}

func TestTheDetectionTimeoutIsTenSeconds(t *testing.T) {
	c, _ := FromEnv(func(string) string { return "" })
	require.Equal(t, 10*time.Second, c.DetectTimeout)
}

func TestAnAddressThatNobodyKnowsIsSentToAsItIs(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("elsewhere", podSpec{serve: web(hello)})
	w.directory(p.app).set(&meshapi.Destinations{})
	s := w.sidecar("client")
	res, err := httpClient(t, s, p.app, false).Get("http://elsewhere.example/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, map[string]float64{"no_identity/not_provided_by_service_discovery": 1}, counted(t, s.metrics, "request_total"))
}

func TestAnAddressThatNobodyKnowsAndNobodyAnswersIsNotTriedForLong(t *testing.T) {
	w := newWorld(t)
	l := listenOn(t, "127.0.0.1")
	addr := addrOf(l)
	l.Close()
	w.directory(addr).set(&meshapi.Destinations{Opaque: true})
	c, err := w.sidecar("client").dial(short(t), addr)
	require.NoError(t, err)
	defer c.Close()
	begin := time.Now()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Less(t, time.Since(begin), time.Second)
}

func TestAnOpaquePortWithoutAnyEndpointFailsFastAndIsCounted(t *testing.T) {
	w := newWorld(t)
	vip, d := w.service("10.96.0.1:5432")
	d.set(&meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Opaque: true})
	s := w.sidecar("client")
	c, err := s.dial(short(t), vip)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 1, labelled(t, s.metrics, "outbound_tcp_errors_total", "error")["failfast"])
}

func TestAnOpaqueInboundPortIsNotLookedAt(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("db", podSpec{meshed: true, serve: greeter, opaque: ports.Set{{First: 1, Last: 65535}}})
	c, err := net.Dial("tcp4", p.front().String())
	require.NoError(t, err)
	talk(t, c)
	require.Equal(t, map[string]float64{"no_identity/port_skipped": 1}, counted(t, p.metrics, "inbound_tcp_authz_allow_total"))
}

func TestADeniedConnectionIsClosedAndCounted(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("db", podSpec{
		meshed: true, serve: greeter, policy: policy.AllAuthenticated, remote: netip.MustParseAddr("172.20.0.9"),
		opaque: ports.Set{{First: 1, Last: 65535}},
	})
	c, err := net.Dial("tcp4", p.front().String())
	require.NoError(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, map[string]float64{"no_identity/port_skipped": 1}, counted(t, p.metrics, "inbound_tcp_authz_deny_total"))
}

func TestTLSForSomebodyElseIsPassedThrough(t *testing.T) {
	w := newWorld(t)
	got := make(chan []byte, 1)
	p := w.startPod("web", podSpec{meshed: true, serve: func(l net.Listener) func() {
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			b := make([]byte, 11)
			_, _ = io.ReadFull(c, b)
			got <- b
		}()
		return func() { l.Close() }
	}})
	c, err := net.Dial("tcp4", p.front().String())
	require.NoError(t, err)
	hello := []byte("\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03")
	_, err = c.Write(hello)
	require.NoError(t, err)
	select {
	case b := <-got:
		require.Equal(t, hello, b)
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came through")
	}
	c.Close()
}

func BenchmarkAUnaryCall(b *testing.B) {
	for name, through := range map[string]bool{"direct": false, "through a pair of proxies": true} {
		b.Run(name, func(b *testing.B) {
			client, p, _ := pair(b, true)
			if !through {
				w := p.w
				plain := w.startPod("web", podSpec{})
				vip, _ := w.service("10.96.0.2:9090", plain)
				client = testgrpc.NewTestServiceClient(grpcTo(b, w.clusterIP(vip)))
			}
			ctx := b.Context()
			for b.Loop() {
				if _, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 200}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
