package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/socket"
)

// loopback is the only host that traffic goes to from this machine.
const loopback = "127.0.0.1"

var errForeign = errors.New("traffic goes to " + loopback + " only")

// checkAddress refuses anything but a port of 127.0.0.1, or of a host that is
// named: a load generator must not be able to hit a machine that is not its own
// by a slip of the pen.
func checkAddress(name, addr string, hosts ...string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && host != loopback && !slices.Contains(hosts, host) {
		err = errForeign
	}
	if err == nil {
		if n, bad := strconv.ParseUint(port, 10, 16); bad != nil || n == 0 {
			err = fmt.Errorf("the port %q is not a number from 1 to 65535", port)
		}
	}
	if err != nil {
		return fault.NewInvalid(fmt.Errorf("%s address %q: %w", name, addr, err),
			"publish the load balancer on "+loopback+" and give that address")
	}
	return nil
}

// dialOnly opens connections to 127.0.0.1 and the hosts that are named, and
// refuses all others, also where a redirect or a proxy setting would lead
// elsewhere.
func dialOnly(hosts ...string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if host != loopback && !slices.Contains(hosts, host) {
			return nil, fmt.Errorf("dial %s: %w", addr, errForeign)
		}
		c, err := socket.Dial(ctx, new(net.Dialer), network, addr)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}
