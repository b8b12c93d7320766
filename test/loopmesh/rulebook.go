package loopmesh

import (
	"net/netip"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// rulebook is a policy controller that is told what to tell.
type rulebook struct {
	meshapi.UnimplementedPolicyServer
	networks []netip.Prefix // of the cluster

	mu      sync.Mutex
	now     *meshapi.InboundRules // nil: what each pod was made with
	changed chan struct{}         // closed when now is another
}

func newRulebook(networks ...netip.Prefix) *rulebook {
	return &rulebook{networks: networks, changed: make(chan struct{})}
}

func (b *rulebook) set(rules *meshapi.InboundRules) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.now, b.changed = rules, make(chan struct{})
}

func (b *rulebook) get() (*meshapi.InboundRules, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now, b.changed
}

// WatchInbound implements the Policy service.
func (b *rulebook) WatchInbound(req *meshapi.WatchInboundRequest, stream meshapi.Policy_WatchInboundServer) error {
	own, err := b.defaults(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for {
		now, changed := b.get()
		if now == nil {
			now = own
		}
		if err := stream.Send(now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
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
