package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"meshsim.dev/meshsim/scenarios"
)

// clientIdle is when a kept connection is dropped: before the load balancer does
// it (60 s), so that no request meets a connection that is being closed.
const clientIdle = 30 * time.Second

// mostIdle is how many connections are kept where nothing bounds them.
const mostIdle = 1024

// wires are the connections of a sender, as the scenario has them.
type wires struct {
	all  []*http.Transport // by turns
	next atomic.Uint64
	free chan struct{} // a place for each connection; nil where nothing bounds them
}

func newWires(s scenarios.Sender, hosts ...string) *wires {
	w := &wires{}
	switch {
	case s.Connections == scenarios.HTTP2:
		spoken := new(http.Protocols)
		spoken.SetUnencryptedHTTP2(true)
		for range max(1, s.MaxConnections) { // a transport has one connection for all requests
			t := transport(hosts)
			t.Protocols = spoken
			t.MaxConnsPerHost = 1 // also where two requests come before it is open
			w.all = append(w.all, t)
		}
		return w
	default:
		t := transport(hosts)
		t.DisableKeepAlives = s.Connections == scenarios.NewConnections
		// one that has just come free may take a moment until it can be had again
		t.MaxConnsPerHost = s.MaxConnections
		w.all = []*http.Transport{t}
	}
	if s.MaxConnections > 0 {
		w.free = make(chan struct{}, s.MaxConnections)
	}
	return w
}

func transport(hosts []string) *http.Transport {
	return &http.Transport{DialContext: dialOnly(hosts...), MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: clientIdle}
}

// errNoWire is returned when no connection came free in time.
var errNoWire = errors.New("no connection was free before the timeout")

// take waits until a connection may be used, no longer than a timeout; done
// gives it back. What goes over
// an HTTP/1.1 connection has it alone, so as many requests are under way as
// there are connections at most. The transport could count them too, but its
// wait would look like the shop's.
func (w *wires) take(ctx context.Context, timeout time.Duration) (wire http.RoundTripper, done func(), err error) {
	if w.free == nil {
		return w.all[w.next.Add(1)%uint64(len(w.all))], func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case w.free <- struct{}{}:
		return w.all[0], func() { <-w.free }, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%w: all %d are in use", errNoWire, cap(w.free))
	}
}

func (w *wires) close() {
	for _, t := range w.all {
		t.CloseIdleConnections()
	}
}

// neverLeft tells that a request was not sent, for this side's own reasons: no
// connection was free, or could be opened with what this machine has left.
func neverLeft(err error) bool {
	if errors.Is(err, errNoWire) || errors.Is(err, errForeign) {
		return true
	}
	dial, ok := errors.AsType[*net.OpError](err)
	if !ok || dial.Op != "dial" {
		return false
	}
	for _, own := range []error{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
