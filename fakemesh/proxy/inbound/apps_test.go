package inbound

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// ask sends one request to a port by the pools.
func (a *apps) ask(port uint16) (*http.Response, error) {
	conn, err := a.acquire(context.Background(), appKey{netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), port), true})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodGet, "http://app/", nil)
	if err != nil {
		return nil, err
	}
	return conn.RoundTrip(req)
}

// http2App is an application whose every port is the same; open counts its
// connections.
func http2App(t *testing.T, h http.HandlerFunc) (a *apps, open *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	open = &atomic.Int64{}
	server := &http.Server{Handler: h, Protocols: &http.Protocols{}, ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return &apps{dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", l.Addr().String())
	}}, open
}

func TestWhoDialsAnyPortDoesNotMakeTheProxyKeepConnectionsToAll(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	slow.Store(true)
	a, open := http2App(t, func(w http.ResponseWriter, _ *http.Request) {
		if slow.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})
	read := func(res *http.Response, err error) string {
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(text)
	}
	type answer struct {
		res *http.Response
		err error
	}
	first := make(chan answer, 1)
	go func() {
		res, err := a.ask(1)
		first <- answer{res, err}
	}()
	<-entered
	for port := uint16(2); port < maxApps+50; port++ {
		require.Equal(t, "done", read(a.ask(port)))
	}
	require.Len(t, a.all, maxApps)
	require.NotContains(t, a.all, appKey{netip.MustParseAddrPort("10.1.0.1:1"), true}, "the oldest is given up")
	require.Eventually(t, func() bool { return open.Load() <= maxApps+1 }, 10*time.Second, 10*time.Millisecond)
	close(release)
	x := <-first
	require.Equal(t, "done", read(x.res, x.err), "what it had under way goes on")
	require.Eventually(t, func() bool { return open.Load() <= maxApps }, 10*time.Second, 10*time.Millisecond)
	a.close()
	require.Eventually(t, func() bool { return open.Load() == 0 }, 10*time.Second, 10*time.Millisecond)
}

func TestAPoolThatIsBeingUsedIsNotGivenUp(t *testing.T) {
	a := &apps{}
	key := func(port int) appKey {
		return appKey{netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), uint16(port)), true}
	}
	for port := range maxApps {
		require.NotNil(t, a.take(key(port)))
	}
	require.Nil(t, a.take(key(maxApps)))
	_, err := a.acquire(context.Background(), key(maxApps))
	require.ErrorIs(t, err, upstream.ErrOverloaded)
	require.NotNil(t, a.take(key(7)), "one that is there can be used still")
	a.all[key(3)].acquiring.Store(0)
	require.NotNil(t, a.take(key(maxApps)))
	require.NotContains(t, a.all, key(3))
	a.close()
}
