package destination

import (
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Server answers proxies from an Index.
type Server struct {
	meshapi.UnimplementedDestinationServer
	Index *Index
}

// Watch implements the Destination service.
func (s *Server) Watch(req *meshapi.WatchRequest, stream meshapi.Destination_WatchServer) error {
	addr, err := netip.ParseAddrPort(req.GetAddress())
	if err != nil || !addr.Addr().Is4() {
		return status.Errorf(codes.InvalidArgument, "%q is no IPv4 address with a port", req.GetAddress())
	}
	ctx := stream.Context()
	if err := s.Index.Synced(ctx); err != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	err = hub.Follow(ctx, s.Index.hub,
		func() (*meshapi.Destinations, hub.Keys) { return s.Index.lookup(addr) },
		func(a, b *meshapi.Destinations) bool { return proto.Equal(a, b) }, stream.Send)
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}
