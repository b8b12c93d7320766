package outbound

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

func TestBackendsOfWhatIsDialledAreNotForgotten(t *testing.T) {
	o := &Outbound{Options: Options{Metrics: metrics.New(metrics.Info{}), Watch: func(ctx context.Context, _ netip.AddrPort, _ func(*meshapi.Destinations)) { <-ctx.Done() }}}
	web, canary := netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.96.0.2:80")
	dialled := o.targets.get(targetKey{addr: web}, o.begin)
	// Each leads to the other, and the canary was dialled by itself once.
	to := func(addr netip.AddrPort) *meshapi.OutboundRules {
		return &meshapi.OutboundRules{Routes: []*meshapi.Route{{Rules: []*meshapi.Rule{{Backends: []*meshapi.Backend{{Weight: 1, Address: addr.String()}}}}}}}
	}
	o.setRoutes(dialled, to(canary))
	backend := o.targets.get(targetKey{addr: canary}, o.begin)
	require.Same(t, backend, dialled.routing.backends()[canary])
	o.setRoutes(backend, to(web))
	backend.release()

	late := time.Now().Add(2 * forgetAfter)
	o.targets.sweep(late, o.Metrics)
	require.Len(t, o.targets.byKey, 2)
	dialled.release()
	o.targets.sweep(late.Add(2*forgetAfter), o.Metrics)
	require.Empty(t, o.targets.byKey, "nobody dials either, whatever their routes say of each other")
}

func TestRoutesThatMakeNoSenseLeaveThoseBefore(t *testing.T) {
	addr := netip.MustParseAddrPort("10.96.0.1:80")
	x := &target{addr: addr, endpoints: newEndpoints(), routing: newRouting()}
	o := &Outbound{Options: Options{Metrics: metrics.New(metrics.Info{}), Log: slog.New(slog.DiscardHandler)}}
	o.setRoutes(x, &meshapi.OutboundRules{})
	before := x.routing.rules.Load()
	require.NotNil(t, before)
	o.setRoutes(x, &meshapi.OutboundRules{Routes: []*meshapi.Route{{Rules: []*meshapi.Rule{{Matches: []*meshapi.Match{{Path: &meshapi.PathMatch{Value: "x"}}}}}}}})
	require.Same(t, before, x.routing.rules.Load())
}
