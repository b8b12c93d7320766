package loopmesh

import (
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// rulebook is a policy controller that is told what to tell.
type rulebook struct {
	meshapi.UnimplementedPolicyServer
	networks []netip.Prefix               // of the cluster
	rules    *told[*meshapi.InboundRules] // nil: what each pod was made with
}

func newRulebook(networks ...netip.Prefix) *rulebook {
	return &rulebook{networks: networks, rules: newTold[*meshapi.InboundRules](nil)}
}

// WatchInbound implements the Policy service.
func (b *rulebook) WatchInbound(req *meshapi.WatchInboundRequest, stream meshapi.Policy_WatchInboundServer) error {
	own, err := b.defaults(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return b.rules.follow(stream.Context(), func(rules *meshapi.InboundRules) error {
		if rules == nil {
			rules = own
		}
		return stream.Send(rules)
	})
}

func (b *rulebook) defaults(req *meshapi.WatchInboundRequest) (*meshapi.InboundRules, error) {
	d := policy.Defaults{Networks: b.networks, ProbeNetworks: policy.Everywhere()}
	var err error
	if d.Policy, err = policy.ParseDefault(req.GetDefaultPolicy()); err != nil {
		return nil, err
	}
	if d.Probes, err = policy.ParseProbes(req.GetProbes()); err != nil {
		return nil, err
	}
	return d.Rules(), nil
}

// WatchOutbound implements the Policy service: no address has routes.
func (b *rulebook) WatchOutbound(_ *meshapi.WatchOutboundRequest, stream meshapi.Policy_WatchOutboundServer) error {
	if err := stream.Send(&meshapi.OutboundRules{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}
