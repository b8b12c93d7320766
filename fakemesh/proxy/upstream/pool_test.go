package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server serves both versions of HTTP and counts its connections.
type server struct {
	addr  string
	conns atomic.Int64
	http  *http.Server
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{addr: l.Addr().String()}
	s.http = &http.Server{Handler: h, Protocols: &http.Protocols{}, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 3}}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	s.http.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	go func() { _ = s.http.Serve(l) }()
	t.Cleanup(func() { s.http.Close() })
	return s
}

func dialTo(addr string) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", addr)
	}
}

func pool(t *testing.T, addr string, isHTTP2 bool, l Limits) *Pool {
	t.Helper()
	p := NewPool(dialTo(addr), isHTTP2, l)
	t.Cleanup(p.Drain)
	return p
}

func get(p *Pool) (string, error) {
	conn, err := p.Acquire(context.Background())
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodGet, "http://x/", nil)
	if err != nil {
		return "", err
	}
	res, err := conn.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		p := pool(t, s.addr, isHTTP2, Limits{})
		for range 10 {
			body, err := get(p)
			require.NoError(t, err)
			require.Equal(t, "ok", body)
		}
		require.EqualValues(t, 1, s.conns.Load())
	}
}

func TestManyAtOnceGetTheConnectionsTheyNeed(t *testing.T) {
	for isHTTP2, want := range map[bool]int64{false: 9, true: 3} {
		release := make(chan struct{})
		var in sync.WaitGroup
		s := serve(t, func(http.ResponseWriter, *http.Request) { in.Done(); <-release })
		p := pool(t, s.addr, isHTTP2, Limits{})
		in.Add(1)
		var wg sync.WaitGroup
		do := func() {
			if _, err := get(p); err != nil {
				t.Error(err)
			}
		}
		wg.Go(do)
		in.Wait() // by now the server's limit of streams is known
		in.Add(8)
		for range 8 {
			wg.Go(do)
		}
		in.Wait()
		close(release)
		wg.Wait()
		require.Equal(t, want, s.conns.Load(), "HTTP/2: %v", isHTTP2)
	}
}

func TestTheLimitOfConnectionsIsKept(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	p := pool(t, s.addr, false, Limits{Connections: 1})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = get(p) })
	<-entered
	_, err := get(p)
	require.ErrorIs(t, err, ErrOverloaded)
	require.ErrorAs(t, err, new(*UnsentError))
	close(release)
	wg.Wait()
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		p := pool(t, s.addr, isHTTP2, Limits{Idle: 30 * time.Millisecond})
		_, err := get(p)
		require.NoError(t, err)
		require.Equal(t, 1, p.Len())
		require.Eventually(t, func() bool { return p.Len() == 0 }, 5*time.Second, 5*time.Millisecond)
		_, err = get(p)
		require.NoError(t, err)
	}
}

func TestADrainLetsRequestsEndAndTakesNoMore(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		release := make(chan struct{})
		entered := make(chan struct{}, 1)
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { entered <- struct{}{}; <-release; fmt.Fprint(w, "done") })
		p := pool(t, s.addr, isHTTP2, Limits{})
		var body string
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { body, err = get(p) })
		<-entered
		p.Drain()
		_, refused := p.Acquire(context.Background())
		require.ErrorAs(t, refused, new(*UnsentError))
		close(release)
		wg.Wait()
		require.NoError(t, err)
		require.Equal(t, "done", body)
		require.Eventually(t, func() bool { return p.Len() == 0 }, 5*time.Second, 5*time.Millisecond)
	}
}

func TestADeadServerIsAnUnsentRequest(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	for _, isHTTP2 := range []bool{false, true} {
		_, err := get(pool(t, l.Addr().String(), isHTTP2, Limits{}))
		var unsent *UnsentError
		require.ErrorAs(t, err, &unsent)
		require.True(t, unsent.Dial)
	}
}

func TestAnIdleConnectionThatTheServerClosedIsNotUsed(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		p := pool(t, s.addr, isHTTP2, Limits{})
		_, err := get(p)
		require.NoError(t, err)
		addr := s.addr
		require.NoError(t, s.http.Close())
		require.Eventually(t, func() bool { return p.Len() == 0 }, 5*time.Second, time.Millisecond)
		l, err := net.Listen("tcp4", addr)
		require.NoError(t, err)
		again := &http.Server{Handler: s.http.Handler, Protocols: s.http.Protocols}
		go func() { _ = again.Serve(l) }()
		_, err = get(p)
		require.NoError(t, err)
		again.Close()
	}
}

func TestARequestThatBrokeOffAfterItWasSentIsNotUnsent(t *testing.T) {
	for _, isHTTP2 := range []bool{false, true} {
		s := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		_, err := get(pool(t, s.addr, isHTTP2, Limits{}))
		require.Error(t, err)
		require.False(t, errors.As(err, new(*UnsentError)), "%v", err)
	}
}

// frames is an HTTP/2 server whose every frame is the test's.
func frames(t *testing.T, talk func(f *http2.Framer, stream uint32)) *Pool {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
				c.Close()
				continue
			}
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					break
				}
				if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
					_ = f.WriteSettingsAck()
				}
				if h, ok := frame.(*http2.HeadersFrame); ok {
					talk(f, h.StreamID)
				}
			}
			c.Close()
		}
	}()
	p := NewPool(dialTo(l.Addr().String()), true, Limits{})
	t.Cleanup(func() { l.Close(); p.Drain(); <-done })
	return p
}

func TestStreamsThatTheServerDidNotTakeAreUnsent(t *testing.T) {
	for name, tc := range map[string]struct {
		talk   func(f *http2.Framer, stream uint32)
		unsent bool
	}{
		"RST_STREAM with REFUSED_STREAM": {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, true},
		"GOAWAY from before the stream":  {func(f *http2.Framer, s uint32) { _ = f.WriteGoAway(s-1, http2.ErrCodeNo, nil) }, true},
		"RST_STREAM with INTERNAL_ERROR": {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeInternal) }, false},
		"RST_STREAM with CANCEL":         {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeCancel) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := frames(t, tc.talk)
			_, err := get(p)
			require.Error(t, err)
			require.Equal(t, tc.unsent, errors.As(err, new(*UnsentError)), "%v", err)
		})
	}
}

func TestAStreamFromBeforeAGoawayIsFinishedAndLaterOnesGoElsewhere(t *testing.T) {
	var conns atomic.Int64
	p := frames(t, func(f *http2.Framer, stream uint32) {
		conns.Add(1)
		_ = f.WriteGoAway(stream, http2.ErrCodeNo, nil)
		var b strings.Builder
		enc := hpack.NewEncoder(&b)
		_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(b.String()), EndHeaders: true})
		_ = f.WriteData(stream, true, []byte("ok"))
	})
	for range 3 {
		body, err := get(p)
		require.NoError(t, err)
		require.Equal(t, "ok", body)
	}
	require.EqualValues(t, 3, conns.Load())
}
