package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"google.golang.org/grpc"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// policies watches rules by the policy controller.
type policies struct {
	client meshapi.PolicyClient
	ready  <-chan struct{} // closed once there is a certificate to show
	pod    string
	own    policy.Defaults // what the pod was made with
	log    *slog.Logger
}

// watchInbound tells of the pod's rules until ctx ends. Rules that make no sense
// leave those before in force.
func (p *policies) watchInbound(ctx context.Context, update func(*policy.Inbound)) {
	req := &meshapi.WatchInboundRequest{Pod: p.pod, DefaultPolicy: string(p.own.Policy), Probes: probes(p.own.Probes)}
	subscribe(ctx, p.ready, p.log, func(ctx context.Context) (grpc.ServerStreamingClient[meshapi.InboundRules], error) {
		return p.client.WatchInbound(ctx, req, grpc.WaitForReady(true))
	}, func(rules *meshapi.InboundRules) {
		compiled, err := policy.Compile(rules)
		if err != nil {
			p.log.Warn("rules are not understood", "error", err)
			return
		}
		update(compiled)
	})
}

func probes(list []policy.Probe) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return strings.Join(texts, ",")
}

// watchOutbound implements outbound.WatchRoutes.
func (p *policies) watchOutbound(ctx context.Context, addr netip.AddrPort, update func(*meshapi.OutboundRules)) {
	subscribe(ctx, p.ready, p.log.With("dst", addr), func(ctx context.Context) (grpc.ServerStreamingClient[meshapi.OutboundRules], error) {
		return p.client.WatchOutbound(ctx, &meshapi.WatchOutboundRequest{Address: addr.String(), Pod: p.pod}, grpc.WaitForReady(true))
	}, update)
}
