package loopmesh

import (
	"net/netip"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// directory is a destination service that is told what to tell.
type directory struct {
	meshapi.UnimplementedDestinationServer
	mu     sync.Mutex
	byAddr map[netip.AddrPort]*told[*meshapi.Destinations]
}

func newDirectory() *directory {
	return &directory{byAddr: map[netip.AddrPort]*told[*meshapi.Destinations]{}}
}

func (d *directory) at(addr netip.AddrPort) *told[*meshapi.Destinations] {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.byAddr[addr]
	if t == nil {
		t = newTold(&meshapi.Destinations{})
		d.byAddr[addr] = t
	}
	return t
}

func (d *directory) set(addr netip.AddrPort, now *meshapi.Destinations) { d.at(addr).set(now) }

// Watch implements the Destination service.
func (d *directory) Watch(req *meshapi.WatchRequest, stream meshapi.Destination_WatchServer) error {
	addr, err := netip.ParseAddrPort(req.GetAddress())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return d.at(addr).follow(stream.Context(), stream.Send)
}
