package call

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/harness/agent/echo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an echo server on loopback with all that it speaks.
type world struct{ http, grpc, tcp, greeting string }

func open(t *testing.T) world {
	t.Helper()
	w := world{freePort(t), freePort(t), freePort(t), freePort(t)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- echo.Serve(ctx, echo.Options{HTTP: w.http, GRPC: w.grpc, TCP: w.tcp, Greeting: w.greeting, Name: "web-0"})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	for _, addr := range []string{w.http, w.grpc, w.tcp, w.greeting} {
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err == nil
		}, 5*time.Second, 5*time.Millisecond)
	}
	return w
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func run(t *testing.T, o Options) []Result {
	t.Helper()
	if o.Rate == 0 {
		o.Rate = 200
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	o.Count = max(o.Count, 1)
	got, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, got, o.Count)
	return got
}

func TestEveryProtocolIsAnswered(t *testing.T) {
	w := open(t)
	for _, c := range []struct {
		name   string
		o      Options
		server string
		status int
		code   string
		pings  int
	}{
		{"HTTP", Options{Target: "http://" + w.http + "/"}, "web-0", 200, "", 0},
		{"HTTP with a body", Options{Target: "http://" + w.http + "/x", Bytes: 3 << 20}, "web-0", 200, "", 0},
		{"HTTP on fresh connections", Options{Target: "http://" + w.http + "/", Fresh: true, Count: 5}, "web-0", 200, "", 0},
		{"gRPC", Options{Target: "grpc://" + w.grpc}, "web-0", 0, "OK", 0},
		{"gRPC with a payload on fresh connections", Options{Target: "grpc://" + w.grpc, Bytes: 1 << 16, Fresh: true, Count: 3}, "web-0", 0, "OK", 0},
		{"a gRPC stream", Options{Target: "grpc://" + w.grpc, Hold: 600 * time.Millisecond}, "web-0", 0, "OK", 2},
		{"WebSocket", Options{Target: "ws://" + w.http + "/ws", Count: 2}, "", 0, "", 1},
		{"a held WebSocket", Options{Target: "ws://" + w.http + "/ws", Hold: 600 * time.Millisecond}, "", 0, "", 2},
		{"TCP", Options{Target: "tcp://" + w.tcp}, "", 0, "", 1},
		{"TCP with more than buffers hold", Options{Target: "tcp://" + w.tcp, Bytes: 16 << 20}, "", 0, "", 1},
		{"held TCP", Options{Target: "tcp://" + w.tcp, Hold: 600 * time.Millisecond}, "", 0, "", 2},
		{"a server that speaks first", Options{Target: "greeting://" + w.greeting}, "web-0", 0, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, r := range run(t, c.o) {
				require.True(t, r.OK, r.Error)
				require.Equal(t, []any{i, c.server, c.status, c.code}, []any{r.N, r.Server, r.Status, r.Code})
				require.GreaterOrEqual(t, r.Pings, c.pings)
				require.LessOrEqual(t, r.Due, r.Sent)
				require.Less(t, r.Sent, r.Done)
			}
		})
	}
}

func TestARefusalKeepsItsReason(t *testing.T) {
	w, gone := open(t), freePort(t)
	for _, c := range []struct {
		target string
		status int
		code   string
		want   string
	}{
		{"http://" + w.http + "/status/403", 403, "", "403 Forbidden"},
		{"http://" + w.http + "/status/503", 503, "", "503 Service Unavailable"},
		{"grpc://" + w.grpc + "/7", 0, "PermissionDenied", "as asked"},
		{"grpc://" + w.grpc + "/14", 0, "Unavailable", "as asked"},
		{"http://" + gone + "/", 0, "", "connection refused"},
		{"grpc://" + gone, 0, "Unavailable", "connection refused"},
		{"tcp://" + gone, 0, "", "connection refused"},
		{"ws://" + gone + "/ws", 0, "", "connection refused"},
	} {
		t.Run(c.target, func(t *testing.T) {
			got := run(t, Options{Target: c.target})[0]
			require.False(t, got.OK)
			require.Equal(t, []any{c.status, c.code}, []any{got.Status, got.Code})
			require.Contains(t, got.Error, c.want)
		})
	}
}

func TestHeadersOfBothWaysAreShownWhenAskedFor(t *testing.T) {
	w := open(t)
	got := run(t, Options{Target: "http://" + w.http + "/", Headers: map[string]string{"X-Order": "o-1"}, Show: true})[0]
	require.Equal(t, "o-1", got.Headers.Get("X-Order"))
	require.Equal(t, []string{"application/json"}, got.Received["Content-Type"])
	got = run(t, Options{Target: "grpc://" + w.grpc, Show: true})[0]
	require.Equal(t, []string{"web-0"}, got.Received[echo.TrailerName])
	require.Nil(t, run(t, Options{Target: "http://" + w.http + "/"})[0].Headers)
}

func TestASilentServerIsTimedOutAndHoldsNoOtherCallUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	got := run(t, Options{Target: "greeting://" + l.Addr().String(), Count: 5, Rate: 100, Timeout: 200 * time.Millisecond})
	for i, r := range got {
		require.False(t, r.OK)
		require.Contains(t, r.Error, "deadline exceeded")
		require.InDelta(t, 10*i, r.Due, 0.01, "calls are due by the clock, not by the answers")
	}
}

func TestAnInterruptedRunTellsOfWhatItSent(t *testing.T) {
	w := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	got, err := Run(ctx, Options{Target: "http://" + w.http + "/", Rate: 50, Count: 10_000, Timeout: time.Second})
	require.NoError(t, err)
	require.NotEmpty(t, got)
	require.Less(t, len(got), 100)
}

func TestWhatPrintsIsReadBack(t *testing.T) {
	want := []Result{{N: 0, Due: 0, Sent: 0.1, Done: 2.5, OK: true, Status: 200, Server: "web-0"}, {N: 1, Due: 50, Sent: 50, Done: 51, Error: "reset", Code: "Unavailable"}}
	var out bytes.Buffer
	for _, r := range want {
		require.NoError(t, json.NewEncoder(&out).Encode(r))
	}
	got, err := Decode(&out)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = Decode(strings.NewReader(`{"n":0}` + "\n{"))
	require.ErrorContains(t, err, "read call 1")
}

func TestOptionsThatCallNothingAreRefused(t *testing.T) {
	good := Options{Target: "http://127.0.0.1:1/", Rate: 1, Count: 1, Timeout: time.Second}
	for name, edit := range map[string]func(*Options){
		"no rate":             func(o *Options) { o.Rate = 0 },
		"no call":             func(o *Options) { o.Count = 0 },
		"no time":             func(o *Options) { o.Timeout = 0 },
		"less than no bytes":  func(o *Options) { o.Bytes = -1 },
		"no port":             func(o *Options) { o.Target = "http://web/" },
		"an unknown protocol": func(o *Options) { o.Target = "ftp://web:21" },
		"an unreadable URL":   func(o *Options) { o.Target = "http://web:x" },
		"an unknown code":     func(o *Options) { o.Target = "grpc://web:9090/17" },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			edit(&o)
			_, err := Run(t.Context(), o)
			require.Error(t, err)
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"n":0,"ok":true}` + "\n" + `{"n":1,"error":"x"}`)
	f.Add(`{"n":0}{`)
	f.Fuzz(func(t *testing.T, text string) {
		if all, err := Decode(strings.NewReader(text)); err != nil && all != nil {
			t.Fatalf("%q gives both calls and an error", text)
		}
	})
}
