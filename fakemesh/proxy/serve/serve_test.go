package serve

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves o; dial gives a client's end of a new connection from 127.0.0.ip.
func start(t *testing.T, o Options) (s *Server, dial func(ip byte) net.Conn) {
	t.Helper()
	s = New(o)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.Serve(c, c.RemoteAddr().String())
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		require.Empty(t, s.peers, "nobody is remembered who has gone")
	})
	return s, func(ip byte) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, ip)}}
		c, err := d.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
}

func ask(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	res.Body.Close()
	return res
}

func busy(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

func TestARequestKnowsWhatItsConnectionWasHandedOverWith(t *testing.T) {
	got := make(chan any, 1)
	_, dial := start(t, Options{Handler: func(_ http.ResponseWriter, r *http.Request) { got <- Meta(r.Context()) }})
	c := dial(1)
	ask(t, c, "/")
	require.Equal(t, c.LocalAddr().String(), <-got)
	require.Nil(t, Meta(context.Background()))
}

func TestWhoIsSlowToSayWhatHeWantsIsCutOff(t *testing.T) {
	_, dial := start(t, Options{HeaderTimeout: 50 * time.Millisecond, Handler: func(http.ResponseWriter, *http.Request) {}})
	for name, words := range map[string]string{
		"half a head":                           "GET / HTTP/1.1\r\nHost: x\r\n",
		"HTTP/2 without its settings":           http2.ClientPreface,
		"half of a second head":                 "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
		"half a frame":                          http2.ClientPreface + "\x00\x00",
		"a frame of settings longer than it is": http2.ClientPreface + "\x00\x40\x00\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(1)
			_, err := io.WriteString(c, words)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, c)
			require.NotErrorIs(t, err, context.DeadlineExceeded, "the server ends it, not the test")
		})
	}
}

func TestTheLimitsAreKeptForAllAndForEachAddress(t *testing.T) {
	entered, release := make(chan struct{}, 4), make(chan struct{})
	_, dial := start(t, Options{Requests: 3, PerPeer: 2, Overload: busy, Handler: func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}})
	var wg sync.WaitGroup
	hold := func(ip byte) {
		c := dial(ip)
		wg.Go(func() {
			res := ask(t, c, "/")
			require.Equal(t, http.StatusOK, res.StatusCode)
		})
		<-entered
	}
	hold(2)
	hold(2)
	require.Equal(t, http.StatusServiceUnavailable, ask(t, dial(2), "/").StatusCode, "one address has its share")
	hold(3)
	require.Equal(t, http.StatusServiceUnavailable, ask(t, dial(4), "/").StatusCode, "there is no more for anybody")
	close(release)
	wg.Wait()
	require.Equal(t, http.StatusOK, ask(t, dial(2), "/").StatusCode)
}

func TestARequestThatItsClientGaveUpCountsOnForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{PerPeer: 1, Overload: busy, Handler: func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
			}
		}})
		dial := func() net.Conn {
			ours, theirs := net.Pipe()
			s.Serve(theirs, nil)
			return ours
		}
		fresh := func() int {
			c := dial()
			defer c.Close()
			return ask(t, c, "/").StatusCode
		}
		slow := dial()
		_, err := io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		synctest.Wait()
		slow.Close()
		synctest.Wait() // its handler has returned
		time.Sleep(aftermath - time.Nanosecond)
		require.Equal(t, http.StatusServiceUnavailable, fresh(), "a new connection is no new share")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, http.StatusOK, fresh())
		require.NoError(t, s.Shutdown(t.Context()))
		require.Empty(t, s.peers)
	})
}

func TestAConnectionThatStaysIdleIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Handler: func(http.ResponseWriter, *http.Request) {}})
		c, theirs := net.Pipe()
		s.Serve(theirs, nil)
		for range 3 {
			ask(t, c, "/")
			time.Sleep(idleTimeout - time.Second)
		}
		ask(t, c, "/")
		begin := time.Now()
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, idleTimeout, time.Since(begin))
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

func TestWhatWasGivenUpHoldsUpNoShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Aftermath: time.Hour, Handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }})
		ours, theirs := net.Pipe()
		s.Serve(theirs, nil)
		_, err := io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, s.Shutdown(ctx), context.Canceled)
		synctest.Wait()
		require.Empty(t, s.peers)
	})
}

func TestADrainEndsConnectionsButNotRequests(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	s, dial := start(t, Options{Handler: func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
	}})
	idle, slow := dial(1), dial(1)
	ask(t, idle, "/")
	done := make(chan *http.Response, 1)
	go func() { done <- ask(t, slow, "/slow") }()
	<-entered
	s.Drain()
	_, err := idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the idle one is closed")
	require.Equal(t, http.StatusOK, ask(t, dial(1), "/").StatusCode, "new ones are served")
	close(release)
	res := <-done
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.True(t, res.Close, "and the busy one told to come back by another")
}

// begin opens a connection and sends the beginning of what a client says first.
func begin(t *testing.T, s *Server, dial func(ip byte) net.Conn, text string) net.Conn {
	t.Helper()
	s.mu.Lock()
	g := s.current
	s.mu.Unlock()
	before := g.fresh.Load()
	c := dial(1)
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return g.fresh.Load() > before }, 10*time.Second, time.Millisecond)
	return c
}

func TestWhatAClientIsSendingFirstWhenItIsToldToComeBackIsAnswered(t *testing.T) {
	for name, end := range map[string]func(*Server){
		"at a drain":    func(s *Server) { s.Drain() },
		"at a shutdown": func(s *Server) { go func() { _ = s.Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			s, dial := start(t, Options{Handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }})
			h1 := begin(t, s, dial, "GET / HTTP/1.1\r\n")
			h2 := begin(t, s, dial, http2.ClientPreface[:10])
			old := s.current
			end(s)
			<-old.listener.done

			_, err := io.WriteString(h1, "Host: x\r\n\r\n")
			require.NoError(t, err)
			res, err := http.ReadResponse(bufio.NewReader(h1), nil)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, http.StatusTeapot, res.StatusCode)
			require.True(t, res.Close, "and it is to come back by another connection")

			_, err = io.WriteString(h2, http2.ClientPreface[10:])
			require.NoError(t, err)
			frames := http2.NewFramer(h2, h2)
			require.NoError(t, frames.WriteSettings())
			var head bytes.Buffer
			encoder := hpack.NewEncoder(&head)
			for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
				require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
			}
			require.NoError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true}))
			require.Contains(t, frameTypes(t, frames), http2.FrameHeaders)
		})
	}
}

// frameTypes are those that come until the first headers, or the end.
func frameTypes(t *testing.T, frames *http2.Framer) (types []http2.FrameType) {
	t.Helper()
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			return types
		}
		types = append(types, f.Header().Type)
		if f.Header().Type == http2.FrameHeaders {
			return types
		}
	}
}

func TestASilentConnectionDoesNotHoldUpAnEndForLong(t *testing.T) {
	s, dial := start(t, Options{Handler: func(http.ResponseWriter, *http.Request) {}})
	c := begin(t, s, dial, "")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestAShutdownWaitsForRequestsOfDrainedConnectionsToo(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	s, dial := start(t, Options{Handler: func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}})
	done := make(chan *http.Response, 1)
	c := dial(1)
	go func() { done <- ask(t, c, "/") }()
	<-entered
	s.Drain()
	over := make(chan error, 1)
	go func() { over <- s.Shutdown(context.Background()) }()
	select {
	case <-over:
		t.Fatal("it did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-over)
	require.Equal(t, http.StatusOK, (<-done).StatusCode)
}

func TestAShutdownCutsWhatIsNotOverInTime(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	s, dial := start(t, Options{Handler: func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}})
	send := func(c net.Conn) {
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		<-entered
	}
	drained := dial(1)
	send(drained)
	s.Drain()
	current := dial(1)
	send(current)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
	for _, c := range []net.Conn{drained, current} {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
	}
	close(release)
	c := dial(1)
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err, "nothing new is taken")
}
