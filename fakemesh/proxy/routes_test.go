package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
)

// routeBook is what the policy controller would say of addresses.
type routeBook struct {
	mu   sync.Mutex
	now  map[netip.AddrPort]*meshapi.OutboundRules
	subs map[chan struct{}]struct{}
}

func newRouteBook() *routeBook {
	return &routeBook{now: map[netip.AddrPort]*meshapi.OutboundRules{}, subs: map[chan struct{}]struct{}{}}
}

func (b *routeBook) set(addr netip.AddrPort, rules ...*meshapi.Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := &meshapi.OutboundRules{Parent: serviceNamed("web")}
	if len(rules) > 0 {
		out.Routes = []*meshapi.Route{{
			Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "HTTPRoute", Namespace: "prod-app", Name: "split"}, Rules: rules,
		}}
	}
	b.now[addr] = out
	for c := range b.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (b *routeBook) watch(ctx context.Context, addr netip.AddrPort, update func(*meshapi.OutboundRules)) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	b.mu.Lock()
	b.subs[c] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, c)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
		}
		b.mu.Lock()
		now := b.now[addr]
		b.mu.Unlock()
		if now != nil {
			update(now)
		}
	}
}

func serviceNamed(name string) *meshapi.Resource {
	return &meshapi.Resource{Group: "core", Kind: "Service", Namespace: "prod-app", Name: name, Port: 80}
}

func toService(name string, addr netip.AddrPort, weight uint32) *meshapi.Backend {
	return &meshapi.Backend{Resource: serviceNamed(name), Address: addr.String(), Weight: weight}
}

func toNowhere(why string, weight uint32) *meshapi.Backend {
	return &meshapi.Backend{Resource: &meshapi.Resource{Kind: "default", Name: "invalid"}, Failure: why, Weight: weight}
}

// split is a Service web with a canary beside it, and a client.
type split struct {
	w           *world
	book        *routeBook
	web, canary netip.AddrPort
	s           *sidecar
}

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait, err := time.ParseDuration(r.Header.Get("X-Wait")); err == nil {
			select {
			case <-time.After(wait):
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Server", "app")
		_, _ = io.WriteString(w, name+r.Header.Get("X-Tenant"))
	})
}

func newSplit(t *testing.T) *split {
	x := &split{w: newWorld(t), book: newRouteBook()}
	x.web, _ = x.w.service("10.96.0.1:80", x.w.startPod("web", podSpec{meshed: true, serve: web(named("web"))}))
	x.canary, _ = x.w.service("10.96.0.2:80", x.w.startPod("canary", podSpec{meshed: true, serve: web(named("canary"))}))
	x.s = x.w.sidecarWith("client", func(o *outbound.Options) { o.WatchRoutes = x.book.watch })
	return x
}

// ask sends n requests and counts the answers.
func ask(t *testing.T, c *http.Client, n int, url string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		res, err := c.Get(url)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		answer := string(body)
		if res.StatusCode != http.StatusOK {
			answer = fmt.Sprint(res.StatusCode, " ", res.Header.Get("L5d-Proxy-Error"))
		}
		got[answer]++
	}
	return got
}

func TestACanaryGetsJustItsShare(t *testing.T) {
	for name, isHTTP2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			x := newSplit(t)
			x.book.set(x.web, &meshapi.Rule{Backends: []*meshapi.Backend{toService("web", x.web, 90), toService("canary", x.canary, 10)}})
			c := httpClient(t, x.s, x.web, isHTTP2)
			require.Equal(t, map[string]int{"web": 180, "canary": 20}, ask(t, c, 200, "http://x/"))
			labels := []string{"parent_group", "parent_kind", "parent_namespace", "parent_name", "parent_port", "route_group", "route_kind", "route_namespace", "route_name", "backend_group", "backend_kind", "backend_namespace", "backend_name", "backend_port"}
			require.Equal(t, map[string]float64{
				"core Service prod-app web 80 policy.linkerd.io HTTPRoute prod-app split core Service prod-app web 80":    180,
				"core Service prod-app web 80 policy.linkerd.io HTTPRoute prod-app split core Service prod-app canary 80": 20,
			}, series(t, x.s.metrics, "outbound_http_route_backend_requests_total", labels...))
			require.Equal(t, map[string]float64{"true/": 200}, counted(t, x.s.metrics, "request_total"))

			x.book.set(x.web, &meshapi.Rule{Backends: []*meshapi.Backend{toService("canary", x.canary, 1)}})
			// One answer of the canary may be its old share; five in a row are not.
			require.Eventually(t, func() bool { return ask(t, c, 5, "http://x/")["canary"] == 5 }, 5*time.Second, time.Millisecond)
			require.Equal(t, map[string]int{"canary": 20}, ask(t, c, 20, "http://x/"))
			x.book.set(x.web)
			require.Eventually(t, func() bool { return ask(t, c, 1, "http://x/")["web"] == 1 }, 5*time.Second, time.Millisecond)
		})
	}
}

func TestAServiceWithoutRoutesIsCountedByTheBuiltInOne(t *testing.T) {
	x := newSplit(t)
	x.book.set(x.web)
	require.Equal(t, map[string]int{"web": 3}, ask(t, httpClient(t, x.s, x.web, false), 3, "http://x/"))
	require.Equal(t, map[string]float64{"web default http web": 3},
		series(t, x.s.metrics, "outbound_http_route_backend_requests_total", "parent_name", "route_kind", "route_name", "backend_name"))
}

func TestTheShareOfABackendThatIsNotThereIsAnswered500(t *testing.T) {
	x := newSplit(t)
	x.book.set(x.web, &meshapi.Rule{Backends: []*meshapi.Backend{toService("web", x.web, 3), toNowhere("Service not found canary", 1)}})
	require.Equal(t, map[string]int{"web": 30, "500 Service not found canary": 10}, ask(t, httpClient(t, x.s, x.web, false), 40, "http://x/"))
	require.Equal(t, map[string]float64{"Service web": 30, "default invalid": 10},
		series(t, x.s.metrics, "outbound_http_route_backend_requests_total", "backend_kind", "backend_name"))
	require.Equal(t, float64(10), sum(series(t, x.s.metrics, "outbound_http_errors_total", "error")))
}

func TestGRPCIsSplitAsWellAndToldInItsOwnWay(t *testing.T) {
	w, book := newWorld(t), newRouteBook()
	vip, _ := w.service("10.96.0.1:80", w.startPod("web", podSpec{meshed: true}))
	canary, _ := w.service("10.96.0.2:80", w.startPod("canary", podSpec{meshed: true}))
	book.set(vip,
		&meshapi.Rule{Backends: []*meshapi.Backend{toService("web", vip, 1), toService("canary", canary, 1)}},
		&meshapi.Rule{
			Matches:  []*meshapi.Match{{Headers: []*meshapi.ValueMatch{{Name: "x-lost", Value: "yes"}}}},
			Backends: []*meshapi.Backend{toNowhere("missing port for backend Service canary", 1)},
		})
	s := w.sidecarWith("client", func(o *outbound.Options) { o.WatchRoutes = book.watch })
	client := testgrpc.NewTestServiceClient(grpcTo(t, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, vip) }))
	got := map[string]int{}
	for range 20 {
		res, err := client.UnaryCall(short(t), &testgrpc.SimpleRequest{})
		require.NoError(t, err)
		got[res.ServerId]++
	}
	require.Len(t, got, 2)
	for _, n := range got {
		require.Equal(t, 10, n)
	}
	_, err := client.UnaryCall(metadata.AppendToOutgoingContext(short(t), "x-lost", "yes"), &testgrpc.SimpleRequest{})
	require.Equal(t, codes.Internal, status.Code(err))
	require.Equal(t, "missing port for backend Service canary", status.Convert(err).Message())
}

func TestRequestsGoByWhatTheyAsk(t *testing.T) {
	x := newSplit(t)
	x.book.set(x.web,
		&meshapi.Rule{
			Matches:  []*meshapi.Match{{Path: &meshapi.PathMatch{Value: "/new"}}},
			Backends: []*meshapi.Backend{toService("canary", x.canary, 1)},
			Filters: &meshapi.Filters{
				Request:  &meshapi.HeaderChange{Set: []*meshapi.Header{{Name: "x-tenant", Value: "+shop"}}},
				Response: &meshapi.HeaderChange{Set: []*meshapi.Header{{Name: "server", Value: "mesh"}}, Add: []*meshapi.Header{{Name: "x-way", Value: "canary"}}},
			},
		},
		&meshapi.Rule{Matches: []*meshapi.Match{{Path: &meshapi.PathMatch{Value: "/old"}}}},
		&meshapi.Rule{
			Matches: []*meshapi.Match{{Path: &meshapi.PathMatch{Value: "/moved"}}},
			Filters: &meshapi.Filters{Redirect: &meshapi.Redirect{Path: "/new"}},
		},
		&meshapi.Rule{
			Matches:  []*meshapi.Match{{Path: &meshapi.PathMatch{Value: "/none"}}},
			Backends: []*meshapi.Backend{toService("canary", x.canary, 0)},
		},
	)
	c := httpClient(t, x.s, x.web, false)
	require.Equal(t, map[string]int{"canary+shop": 2}, ask(t, c, 2, "http://x/new/1"))
	res := get(t, c, "http://x/new")
	require.Equal(t, []string{"mesh"}, res.Header.Values("Server"))
	require.Equal(t, "canary", res.Header.Get("X-Way"))
	require.Equal(t, "app", get(t, c, "http://x/old").Header.Get("Server"))
	require.Equal(t, map[string]int{"web": 2}, ask(t, c, 2, "http://x/old"))
	require.Equal(t, map[string]int{"canary+shop": 1}, ask(t, c, 1, "http://x/moved"), "the client follows the redirection")
	require.Equal(t, map[string]int{"404 no route found for request": 1}, ask(t, c, 1, "http://x/elsewhere"))
	require.Equal(t, map[string]int{"500 no backend of the route has a weight": 1}, ask(t, c, 1, "http://x/none"))
}

func TestARouteMayLimitHowLongARequestTakes(t *testing.T) {
	x := newSplit(t)
	x.book.set(x.web, &meshapi.Rule{Timeout: durationpb.New(150 * time.Millisecond)})
	c := httpClient(t, x.s, x.web, true)
	require.Equal(t, map[string]int{"web": 1}, ask(t, c, 1, "http://x/"))
	req, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
	req.Header.Set("X-Wait", "5s")
	begin := time.Now()
	res, err := c.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusGatewayTimeout, res.StatusCode)
	require.Less(t, time.Since(begin), 3*time.Second)
}

func TestWithoutAPolicyControllerRequestsGoWhereTheyWereGoing(t *testing.T) {
	x := newSplit(t) // whose book says nothing of web
	c := httpClient(t, x.s, x.web, false)
	begin := time.Now()
	require.Equal(t, map[string]int{"web": 1}, ask(t, c, 1, "http://x/"))
	require.InDelta(t, 1, time.Since(begin).Seconds(), 0.6, "the first waits for it")
	begin = time.Now()
	require.Equal(t, map[string]int{"web": 10}, ask(t, c, 10, "http://x/"))
	require.Less(t, time.Since(begin), 900*time.Millisecond, "and no other does")
	x.book.set(x.web, &meshapi.Rule{Backends: []*meshapi.Backend{toService("canary", x.canary, 1)}})
	require.Eventually(t, func() bool { return ask(t, c, 1, "http://x/")["canary"] == 1 }, 5*time.Second, time.Millisecond)
	x.book.set(x.web, &meshapi.Rule{Backends: []*meshapi.Backend{{Address: "canary:80", Weight: 1}}})
	require.Equal(t, map[string]int{"canary": 5}, ask(t, c, 5, "http://x/"), "rules that make no sense leave those before in force")
}
