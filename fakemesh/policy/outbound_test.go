package policy

import (
	"fmt"
	"math"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

func TestEachBackendGetsJustItsShare(t *testing.T) {
	for _, weights := range [][]uint32{
		{1}, {1, 1}, {9, 1}, {90, 10}, {99, 1}, {50, 30, 20}, {333, 333, 334}, {1000, 1}, {7, 0, 3}, {0, 5},
		{1, 2, 3, 4, 5, 6, 7}, {999_999, 1}, {1_000_000, 500_000, 250_000},
	} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			s := newShares(weights)
			var sum uint64
			for _, w := range weights {
				sum += uint64(w)
			}
			got := make([]uint64, len(weights))
			cycle := s.total
			worst := 0.0
			for turn := range 2 * cycle {
				got[s.next()]++
				if turn > 100_000 && turn%1000 != 0 {
					continue
				}
				for i, w := range weights {
					due := float64(turn+1) * float64(w) / float64(sum)
					worst = max(worst, math.Abs(float64(got[i])-due))
				}
			}
			for i, w := range weights {
				require.Equal(t, 2*cycle*uint64(w)/sum, got[i], "backend %d in two whole rounds", i)
			}
			require.Less(t, worst, 2.5, "never far from the share in between")
		})
	}
}

func TestManyRequestsAtOnceAreSharedExactly(t *testing.T) {
	s := newShares([]uint32{95, 5})
	var mu sync.Mutex
	got := map[int]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			own := map[int]int{}
			for range 1000 {
				own[s.next()]++
			}
			mu.Lock()
			defer mu.Unlock()
			for k, n := range own {
				got[k] += n
			}
		})
	}
	wg.Wait()
	require.Equal(t, map[int]int{0: 7600, 1: 400}, got)
}

func service(name string) *meshapi.Resource {
	return &meshapi.Resource{Group: "core", Kind: "Service", Namespace: "prod", Name: name, Port: 9090}
}

func TestAnAddressWithoutRoutesIsPlain(t *testing.T) {
	o, err := CompileOutbound(&meshapi.OutboundRules{Parent: service("web")})
	require.NoError(t, err)
	way, _ := o.Route(httptest.NewRequest("GET", "/x", nil))
	require.True(t, way.Plain())
	require.Equal(t, Resource{Kind: "default", Name: "http"}, way.Route)
	require.Equal(t, Resource{"core", "Service", "prod", "web", 9090}, o.Parent)
}

func TestARequestGoesTheWayOfItsRoute(t *testing.T) {
	canary := &meshapi.Backend{Resource: service("canary"), Weight: 1, Address: "10.96.0.2:9090"}
	o, err := CompileOutbound(&meshapi.OutboundRules{Parent: service("web"), Routes: []*meshapi.Route{{
		Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "HTTPRoute", Namespace: "prod", Name: "split"},
		Rules: []*meshapi.Rule{
			{Matches: []*meshapi.Match{{Path: prefix("/new")}}, Backends: []*meshapi.Backend{canary}, Timeout: durationpb.New(time.Second)},
			{Matches: []*meshapi.Match{{Path: prefix("/gone")}}, Backends: []*meshapi.Backend{{Resource: builtin("invalid"), Weight: 1, Failure: "Service not found gone"}}},
			{Matches: []*meshapi.Match{{Path: prefix("/none")}}, Backends: []*meshapi.Backend{{Resource: service("canary"), Address: "10.96.0.2:9090"}}},
			{Matches: []*meshapi.Match{{Path: prefix("/old")}}},
		},
	}}})
	require.NoError(t, err)
	at := func(path string) *Way {
		way, _ := o.Route(httptest.NewRequest("GET", path, nil))
		return way
	}
	way := at("/new/1")
	require.Equal(t, time.Second, way.Timeout)
	require.Equal(t, "split", way.Route.Name)
	require.Equal(t, netip.MustParseAddrPort("10.96.0.2:9090"), way.Backend().Addr)
	require.Equal(t, "Service not found gone", at("/gone").Backend().Failure)
	require.Nil(t, at("/none").Backend(), "without any weight there is nobody to send to")
	require.True(t, at("/old").Plain())
	require.Nil(t, at("/elsewhere"), "a request without a route")
}

func TestABackendWithoutAnAddressIsRefused(t *testing.T) {
	_, err := CompileOutbound(&meshapi.OutboundRules{Routes: []*meshapi.Route{{Rules: []*meshapi.Rule{{
		Backends: []*meshapi.Backend{{Resource: service("canary"), Weight: 1, Address: "canary:9090"}},
	}}}}})
	require.ErrorContains(t, err, `backend canary: "canary:9090" is no address with a port`)
}

func TestDecidingAllocatesNothing(t *testing.T) {
	p := busyPort(t)
	o, err := CompileOutbound(&meshapi.OutboundRules{Routes: []*meshapi.Route{{Rules: []*meshapi.Rule{{
		Matches:  []*meshapi.Match{{Path: prefix("/"), Headers: []*meshapi.ValueMatch{{Name: "x-team", Value: "gr.*", Regex: true}}}},
		Backends: []*meshapi.Backend{{Weight: 9, Address: "10.0.0.1:1"}, {Weight: 1, Address: "10.0.0.2:1"}},
	}}}}})
	require.NoError(t, err)
	r := readRequest(t, "GET /orders/17?x=1", "shop.example:8080")
	client := from("10.1.2.3", web)
	require.True(t, p.Request(client, r).Allowed)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Request(client, r)
		p.Connection(client)
		way, _ := o.Route(r)
		way.Backend()
	}))
}

// busyPort has a dozen routes and identities.
func busyPort(t testing.TB) *Port {
	rules := &meshapi.PortRules{Authorizations: []*meshapi.Authorization{authz("server", payment, "*.jobs.example")}}
	for i := range 12 {
		rules.Routes = append(rules.Routes, httpRoute(fmt.Sprint(i), fmt.Sprintf("/r%d", i), authz("x", batch)))
	}
	rules.Routes = append(rules.Routes, httpRoute("orders", "/orders", authz("shoppers", batch, web)))
	return served(t, rules)
}

func BenchmarkDecide(b *testing.B) {
	p := busyPort(b)
	r := httptest.NewRequest("GET", "/orders/17?x=1", nil)
	client := from("10.1.2.3", web)
	b.ReportAllocs()
	for b.Loop() {
		if !p.Request(client, r).Allowed {
			b.Fatal("denied")
		}
	}
}

func BenchmarkDecideByDefault(b *testing.B) {
	p := compiled(b, Defaults{Policy: AllAuthenticated}.Rules()).Port(9090)
	r := httptest.NewRequest("POST", "/shop.v1.Orders/Place", nil)
	client := from("10.1.2.3", web)
	b.ReportAllocs()
	for b.Loop() {
		if !p.Request(client, r).Allowed {
			b.Fatal("denied")
		}
	}
}
