package control

import (
	"context"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// Server answers proxies from an Index.
type Server struct {
	meshapi.UnimplementedPolicyServer
	Index *Index
}

// WatchInbound implements the Policy service.
func (s *Server) WatchInbound(req *meshapi.WatchInboundRequest, stream meshapi.Policy_WatchInboundServer) error {
	namespace, name, ok := strings.Cut(req.GetPod(), "/")
	if !ok || namespace == "" || name == "" {
		return status.Errorf(codes.InvalidArgument, "%q is no namespace/name of a pod", req.GetPod())
	}
	d := s.Index.settings.Defaults
	var err error
	if req.GetDefaultPolicy() != "" {
		if d.Policy, err = policy.ParseDefault(req.GetDefaultPolicy()); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
	if d.Probes, err = policy.ParseProbes(req.GetProbes()); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	look := func() (*meshapi.InboundRules, hub.Keys) { return s.Index.inbound(namespace, name, d) }
	return follow(stream.Context(), s.Index, look, stream.Send)
}

// WatchOutbound implements the Policy service.
func (s *Server) WatchOutbound(req *meshapi.WatchOutboundRequest, stream meshapi.Policy_WatchOutboundServer) error {
	addr, err := netip.ParseAddrPort(req.GetAddress())
	if err != nil || !addr.Addr().Is4() {
		return status.Errorf(codes.InvalidArgument, "%q is no IPv4 address with a port", req.GetAddress())
	}
	namespace, _, _ := strings.Cut(req.GetPod(), "/")
	look := func() (*meshapi.OutboundRules, hub.Keys) { return s.Index.outbound(addr, namespace) }
	return follow(stream.Context(), s.Index, look, stream.Send)
}

func follow[T proto.Message](ctx context.Context, x *Index, look func() (T, hub.Keys), send func(T) error) error {
	err := x.Synced(ctx)
	if err == nil {
		err = hub.Follow(ctx, x.hub, look, func(a, b T) bool { return proto.Equal(a, b) }, send)
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}
