package alb

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkRequest is a whole request: a client, the balancer, and a target
// that does nothing, all on one connection each.
func BenchmarkRequest(b *testing.B) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer backend.Close()
	log := slog.New(slog.DiscardHandler)
	t := newTable(owner{name: "shop"}, 0, log)
	t.checker = func(checkSpec, endpoint) func(context.Context) error {
		return func(context.Context) error { return nil }
	}
	spec := groupSpec{Name: "g", Listener: HTTP, Idle: defaultSettings.Idle, Check: checkSpec{Interval: defaultSettings.Idle}, attributes: attributes{CrossZone: true}}
	ctx, cancel := context.WithCancel(b.Context())
	t.apply(ctx, desired{
		rules:    map[Listener][]rule{HTTP: {newRule("", prefixPath, "/", "g", "")}},
		groups:   []desiredGroup{{spec, []endpoint{{IP: "127.0.0.1", Port: int32(backend.Listener.Addr().(*net.TCPAddr).Port)}}}},
		settings: defaultSettings,
	})
	defer t.wait()
	defer cancel()
	front := httptest.NewUnstartedServer(newProxy(HTTP, "80", t, newAccessLog(io.Discard, "app/shop/1"), newFailures(log), log))
	front.Listener = entrance{front.Listener, t}
	front.Config.ConnState, front.Config.ConnContext = t.watchClient, rememberClient
	front.Start()
	defer front.Close()

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		res, err := client.Get(front.URL + "/api/x")
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(b, err)
		require.NoError(b, res.Body.Close())
	}
}
