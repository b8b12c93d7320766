package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// overrideHeader names the Service that a request of an ingress is for: a host
// with a port, or without one for port 80.
const overrideHeader = "L5d-Dst-Override"

// An ingress has done its own balancing: what it dials is left as it is, in the
// clear and unasked for, unless a request names the Service that it is for.

// beginPlain makes a target that is itself and nothing more.
func (o *Outbound) beginPlain(t *target) {
	t.cancel = func() {}
	t.used.Store(time.Now().Unix())
	t.update(&meshapi.Destinations{}, func(d *meshapi.Destinations, e *meshapi.Endpoint) *endpoint {
		x := o.endpoint(d, e)
		x.peer.NoTLSReason = metrics.ReasonWithoutOverride
		return x
	}, o.Metrics)
}

// overridden is the target that a request names; the caller releases it. It is
// nil when the request names none.
func (o *Outbound) overridden(r *http.Request) (*target, error) {
	name := r.Header.Get(overrideHeader)
	if !o.Ingress || name == "" {
		return nil, nil
	}
	addr, err := o.names.find(r.Context(), name)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", overrideHeader, name, err)
	}
	t := o.targets.get(targetKey{addr: addr}, o.begin)
	if t == nil {
		return nil, errTooManyTargets
	}
	return t, nil
}

var errTooManyTargets = errors.New("too many different destinations")

// Limits of what is remembered of names.
const (
	maxNames  = 256
	namesLast = 5 * time.Second
)

// names remembers for a moment what names resolve to.
type names struct {
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	mu      sync.Mutex
	known   map[string]named
}

type named struct {
	addr  netip.Addr
	until time.Time
}

// find resolves what the header holds.
func (n *names) find(ctx context.Context, authority string) (netip.AddrPort, error) {
	host, port := authority, "80"
	if strings.ContainsRune(authority, ':') {
		var err error
		if host, port, err = net.SplitHostPort(authority); err != nil {
			return netip.AddrPort{}, err
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no port", port)
	}
	now := time.Now()
	n.mu.Lock()
	found, ok := n.known[host]
	n.mu.Unlock()
	if !ok || now.After(found.until) {
		ctx, cancel := context.WithTimeout(ctx, FailFast)
		defer cancel()
		all, err := n.resolve(ctx, host)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if len(all) == 0 {
			return netip.AddrPort{}, errors.New("the name has no address")
		}
		found = named{all[0].Unmap(), now.Add(namesLast)}
		n.mu.Lock()
		if len(n.known) >= maxNames || n.known == nil {
			n.known = map[string]named{}
		}
		n.known[host] = found
		n.mu.Unlock()
	}
	return netip.AddrPortFrom(found.addr, uint16(number)), nil
}
