package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
)

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
		for _, good := range []string{"named.prod-app.svc.cluster.local:80", "named.prod-app.svc.cluster.local"} {
			status, body = ask(good)
			require.Equal(t, "200 hello", fmt.Sprint(status, " ", body))
		}
		for _, bad := range []string{"nowhere.svc.cluster.local:80", "named.prod-app.svc.cluster.local:0", "a:b:c"} {
			status, _ = ask(bad)
			require.Equal(t, http.StatusBadGateway, status, bad)
		}
	}
	require.Equal(t, map[string]float64{"no_identity/ingress_without_override": 2, "true/": 4}, counted(t, s.metrics, "request_total"))
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
	require.Equal(t, "service in fail-fast: no endpoint is available", res.Header.Get("L5d-Proxy-Error"))
	require.InDelta(t, 3, time.Since(begin).Seconds(), 0.7)

	begin = time.Now()
	res, err = c.Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Less(t, time.Since(begin), 500*time.Millisecond, "it fails fast by now")

	_, err = testgrpc.NewTestServiceClient(grpcTo(t, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, vip) })).
		UnaryCall(short(t), &testgrpc.SimpleRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, map[string]float64{"failfast": 3}, labelled(t, s.metrics, "outbound_http_errors_total", "error"))

	p := w.startPod("web", podSpec{serve: web(hello)})
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

func TestRequestsOverTheLimitAreShed(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
	}))})
	vip, _ := w.service("10.96.0.1:80", p)
	s := w.sidecarWith("client", func(o *outbound.Options) { o.MaxRequests = 2 })
	var wg sync.WaitGroup
	for _, isHTTP2 := range []bool{false, true} {
		c := httpClient(t, s, vip, isHTTP2)
		wg.Go(func() {
			res, err := c.Get("http://x/")
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%v %v", res, err)
				return
			}
			res.Body.Close()
		})
		<-entered
	}
	res, err := httpClient(t, s, vip, false).Get("http://x/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	_, err = testgrpc.NewTestServiceClient(grpcTo(t, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, vip) })).
		UnaryCall(short(t), &testgrpc.SimpleRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, map[string]float64{"loadshed": 2}, labelled(t, s.metrics, "outbound_http_errors_total", "error"))
	close(release)
	wg.Wait()
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

func TestADeadEndpointIsTriedByOneRequestAndThenInTheBackground(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", isHTTP2), func(t *testing.T) {
			w := newWorld(t)
			served := make([]atomic.Int64, 2)
			var pods []*pod
			for i := range served {
				pods = append(pods, w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					served[i].Add(1)
				}))}))
			}
			vip, _ := w.service("10.96.0.1:80", pods...)
			dead := pods[0].front().String()
			var tries atomic.Int64
			restored := make(chan struct{})
			s := w.sidecarWith("client", func(o *outbound.Options) {
				o.Control = func(_, address string, _ syscall.RawConn) error {
					if address != dead {
						return nil
					}
					if tries.Add(1) == 1 {
						return syscall.EHOSTUNREACH
					}
					<-restored // who comes here waits
					return nil
				}
			})
			c := httpClient(t, s, vip, isHTTP2)
			ask := func() {
				res, err := c.Get("http://x/")
				require.NoError(t, err)
				res.Body.Close()
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
			for tries.Load() < 2 {
				ask()
			}
			for range 50 {
				ask()
			}
			require.Zero(t, served[0].Load())
			require.EqualValues(t, 2, tries.Load(), "no request has tried it again")
			close(restored)
			require.Eventually(t, func() bool {
				ask()
				return served[0].Load() > 0
			}, 10*time.Second, time.Millisecond)
		})
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
