package destination

import (
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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
	sub := s.Index.hub.subscribe()
	defer s.Index.hub.unsubscribe(sub)
	var sent *meshapi.Destinations
	for {
		now, keys := s.Index.lookup(addr)
		for !sub.holds(keys) {
			s.Index.hub.want(sub, keys)
			// Once more: what changed before the keys were held told nobody.
			now, keys = s.Index.lookup(addr)
		}
		if sent == nil || !proto.Equal(sent, now) {
			if err := stream.Send(now); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-sub.changed:
			time.Sleep(settle)
		}
	}
}
