package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/proxy/relay"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

func TestNamesAreRememberedForAMomentAndNotWithoutEnd(t *testing.T) {
	asked := 0
	n := names{resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		asked++
		switch host {
		case "nowhere":
			return nil, errors.New("no such host")
		case "empty":
			return nil, nil
		default:
			return []netip.Addr{netip.MustParseAddr("::ffff:10.96.0.7")}, nil
		}
	}}
	for authority, want := range map[string]string{"web:81": "10.96.0.7:81", "web": "10.96.0.7:80"} {
		got, err := n.find(t.Context(), authority)
		require.NoError(t, err)
		require.Equal(t, want, got.String())
	}
	require.Equal(t, 1, asked, "the port is not the name's")
	n.known["web"] = named{n.known["web"].addr, time.Now().Add(-time.Second)}
	_, err := n.find(t.Context(), "web:81")
	require.NoError(t, err)
	require.Equal(t, 2, asked)
	for _, bad := range []string{"nowhere:80", "empty:80", "web:0", "web:http", "web:99999", "a:b:c", ":"} {
		_, err := n.find(t.Context(), bad)
		require.Error(t, err, bad)
	}
	for i := range 3 * maxNames {
		_, err := n.find(t.Context(), fmt.Sprintf("h%d:80", i))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(n.known), maxNames)
}

func FuzzFind(f *testing.F) {
	for _, seed := range []string{"web.prod-app.svc.cluster.local:80", "[::1]:80", ":", "a:b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		n := names{resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{{}}, nil }}
		if got, err := n.find(context.Background(), authority); err == nil && got.Port() == 0 {
			t.Fatal("port 0")
		}
	})
}

func TestServersThatHaveAllTheConnectionsTheyMayHaveAreNoDeadServers(t *testing.T) {
	full := &upstream.UnsentError{Err: upstream.ErrOverloaded, Dial: true}
	require.Same(t, relay.Overloaded, (&route{last: full}).unavailable(errors.New("tried often")))
	var dead *relay.Error
	require.ErrorAs(t, (&route{last: &upstream.UnsentError{Err: errors.New("refused"), Dial: true}}).unavailable(errors.New("no endpoint")), &dead)
	require.Equal(t, "failfast", dead.Kind)
}
