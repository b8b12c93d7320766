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
	byAddr map[netip.AddrPort]*answer
}

type answer struct {
	now     *meshapi.Destinations
	changed chan struct{} // closed when now is another
}

func newDirectory() *directory { return &directory{byAddr: map[netip.AddrPort]*answer{}} }

func (d *directory) answer(addr netip.AddrPort) *answer {
	a := d.byAddr[addr]
	if a == nil {
		a = &answer{now: &meshapi.Destinations{}, changed: make(chan struct{})}
		d.byAddr[addr] = a
	}
	return a
}

func (d *directory) set(addr netip.AddrPort, now *meshapi.Destinations) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answer(addr)
	close(a.changed)
	a.now, a.changed = now, make(chan struct{})
}

func (d *directory) get(addr netip.AddrPort) (*meshapi.Destinations, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answer(addr)
	return a.now, a.changed
}

// Watch implements the Destination service.
func (d *directory) Watch(req *meshapi.WatchRequest, stream meshapi.Destination_WatchServer) error {
	addr, err := netip.ParseAddrPort(req.GetAddress())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for {
		now, changed := d.get(addr)
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
