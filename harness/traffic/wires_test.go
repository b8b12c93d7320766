package traffic

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// counter is a server that counts its connections.
type counter struct {
	addr      string
	opened    atomic.Int64
	bodies    atomic.Int64 // GET requests that have one
	mu        sync.Mutex
	now, most int
	protos    sync.Map
	slow      time.Duration
}

func openCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{slow: 5 * time.Millisecond}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.protos.Store(r.Proto, true)
		if r.Method == http.MethodGet && r.ProtoMajor == 1 && (r.ContentLength != 0 || r.TransferEncoding != nil || r.Header.Get("Transfer-Encoding") != "") {
			c.bodies.Add(1)
		}
		c.move(1)
		time.Sleep(c.slow)
		c.move(-1)
		_, _ = io.WriteString(w, "{}")
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c.addr = strings.TrimPrefix(server.URL, "http://")
	return c
}

func (c *counter) move(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += by
	c.most = max(c.most, c.now)
}

func sendTo(t *testing.T, c *counter, sender scenarios.Sender, timeout time.Duration) *record {
	t.Helper()
	rec := &record{}
	o := testOptions(&shop{http: c.addr}, rec)
	o.Traffic.Mix, o.Traffic.Sender, o.Traffic.Timeout = map[string]int{"browse": 1, "order": 1}, sender, timeout
	s := run(t, o, func(*Stream) { time.Sleep(700 * time.Millisecond) })
	audit(t, s, rec)
	return rec
}

func TestConnectionsAreTreatedAsTheScenarioSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		sender scenarios.Sender
		proto  string
		opened func(requests int64) (least, most int64)
	}{
		{"kept", scenarios.Sender{Connections: scenarios.KeepAlive}, "HTTP/1.1", func(n int64) (int64, int64) { return 1, n / 2 }},
		{"kept, a few", scenarios.Sender{Connections: scenarios.KeepAlive, MaxConnections: 3}, "HTTP/1.1", func(int64) (int64, int64) { return 1, 3 }},
		{"a new one each time", scenarios.Sender{Connections: scenarios.NewConnections}, "HTTP/1.1", func(n int64) (int64, int64) { return n, n }},
		{"one for all", scenarios.Sender{Connections: scenarios.HTTP2}, "HTTP/2.0", func(int64) (int64, int64) { return 1, 1 }},
		{"three for all", scenarios.Sender{Connections: scenarios.HTTP2, MaxConnections: 3}, "HTTP/2.0", func(int64) (int64, int64) { return 3, 3 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := openCounter(t)
			rec := sendTo(t, server, c.sender, 5*time.Second)
			onlySent(t, rec)
			for _, q := range rec.all {
				require.Equal(t, results.OK, q.Outcome, "%+v", q)
			}
			least, most := c.opened(int64(len(rec.all)))
			require.GreaterOrEqual(t, server.opened.Load(), least)
			require.LessOrEqual(t, server.opened.Load(), most)
			require.Zero(t, server.bodies.Load())
			_, spoken := server.protos.Load(c.proto)
			require.True(t, spoken)
		})
	}
}

func TestWhatWaitsForAConnectionIsLateAndThenNotSent(t *testing.T) {
	server := openCounter(t)
	server.slow = 60 * time.Millisecond // two connections answer 33 a second, and 300 are due
	rec := sendTo(t, server, scenarios.Sender{Connections: scenarios.KeepAlive, MaxConnections: 2}, 250*time.Millisecond)
	require.LessOrEqual(t, server.most, 2)
	late, given := 0, 0
	for _, q := range rec.all {
		if q.Outcome == results.Undispatched {
			if strings.Contains(q.Error, "no connection was free") {
				require.Equal(t, []any{results.ClassSender, int64(0), int64(0)}, []any{q.Class, q.Sent, q.Done})
				given++
			}
			continue
		}
		if time.Duration(q.Lag()) > 100*time.Millisecond {
			late++
		}
	}
	require.Positive(t, late, "the wait is the sender's, and seen as lag")
	require.Positive(t, given, "and none is silently gone")
}

func TestOnlyThisSidesOwnTroubleMeansNotSent(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing wrong":           {nil, false},
		"no connection in time":   {errNoWire, true},
		"another machine":         {errForeign, true},
		"no port left":            {dial(syscall.EADDRNOTAVAIL), true},
		"no file left":            {dial(syscall.EMFILE), true},
		"nobody there":            {dial(syscall.ECONNREFUSED), false},
		"no memory while writing": {&net.OpError{Op: "write", Err: syscall.ENOBUFS}, false},
	} {
		require.Equal(t, c.want, neverLeft(c.err), name)
	}
}
