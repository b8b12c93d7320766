package batch

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a connection that keeps what is written to it, write by write.
type wire struct {
	net.Conn
	mu     sync.Mutex
	writes []string
	fail   error
	in     io.Reader
	closed int

	deadlines []time.Time
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return 0, w.fail
	}
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return nil
}

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed++
	return nil
}

// sent is all that was written, once c has closed.
func (w *wire) sent(t *testing.T, c *Conn) string {
	t.Helper()
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.closed == 1
	}, 10*time.Second, time.Millisecond)
	return strings.Join(w.writes, "")
}

func write(t *testing.T, c *Conn, parts ...string) {
	t.Helper()
	for _, p := range parts {
		n, err := c.Write([]byte(p))
		require.NoError(t, err)
		require.Equal(t, len(p), n)
	}
}

func TestSmallWritesThatFollowEachOtherAreOne(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // where the sender cannot come between
	w := &wire{}
	c := New(w)
	const messages = 200
	for range messages {
		write(t, c, "head", "body", "trailer")
		runtime.Gosched() // to the sender, which lets this one go first once more
		runtime.Gosched()
	}
	require.Equal(t, strings.Repeat("headbodytrailer", messages), w.sent(t, c))
	require.Less(t, len(w.writes), 3*messages/2)
}

func TestWhatIsWrittenIsSentWithoutAnotherWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := New(w)
		begin := time.Now()
		write(t, c, "one message")
		synctest.Wait()
		require.Equal(t, []string{"one message"}, w.writes)
		require.Zero(t, time.Since(begin))
		require.NoError(t, c.Close())
		require.Equal(t, 1, w.closed)
	})
}

func TestTheOrderStaysWhateverTheSizes(t *testing.T) {
	w := &wire{}
	c := New(w)
	var want bytes.Buffer
	for i := range 200 {
		p := bytes.Repeat([]byte{byte('a' + i%26)}, []int{1, 300, 5000, writeSize - 1, writeSize, 3 * writeSize}[i%6])
		want.Write(p)
		write(t, c, string(p))
	}
	require.Equal(t, want.String(), w.sent(t, c))
	for _, p := range w.writes {
		require.True(t, len(p) <= writeSize || len(p) == 3*writeSize)
	}
}

func TestCloseSendsWhatIsLeft(t *testing.T) {
	w := &wire{}
	c := New(w)
	write(t, c, "goodbye")
	require.Equal(t, "goodbye", w.sent(t, c))
	_, err := c.Write([]byte("more"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, c.Close())
}

func TestAFailureToSendIsTheErrorOfTheNextWriteAndEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken pipe")
		w := &wire{fail: broken}
		c := New(w)
		write(t, c, "lost")
		synctest.Wait()
		require.Equal(t, 1, w.closed)
		_, err := c.Write([]byte("x"))
		require.ErrorIs(t, err, broken)
		_, err = c.Write(make([]byte, 2*writeSize))
		require.ErrorIs(t, err, broken)
		require.NoError(t, c.Close())
		require.Equal(t, 1, w.closed)
	})
}

func TestALargeWriteThatFailsEndsTheConnection(t *testing.T) {
	broken := errors.New("broken pipe")
	w := &wire{fail: broken}
	c := New(w)
	_, err := c.Write(make([]byte, writeSize))
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, w.closed)
	_, err = c.Write([]byte("x"))
	require.ErrorIs(t, err, broken)
	require.NoError(t, c.Close())
}

// deaf is a connection whose peer reads nothing more, and says nothing.
type deaf struct{ net.Conn }

var errDeaf = errors.New("the peer reads nothing")

func (d deaf) Write([]byte) (int, error) { return 0, errDeaf }

func TestWhoWaitsToReadLearnsOfAFailureToSend(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := New(deaf{ours})
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 9))
		read <- err
	}()
	write(t, c, "lost")
	require.ErrorIs(t, <-read, errDeaf)
	require.NoError(t, c.Close())
}

func TestAPeerThatTakesNothingForLongIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := New(ours)
		begin := time.Now()
		write(t, c, "nobody reads this")
		require.NoError(t, c.SetWriteDeadline(time.Now())) // a writer's own is not heeded
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, patience, time.Since(begin))
		_, err = c.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.Close())
	})
}

func TestTheDeadlineOfWhatIsSentIsMovedOnceHalfOfItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		c := New(w)
		begin := time.Now()
		for range 8 {
			write(t, c, "a message")
			synctest.Wait()
			time.Sleep(patience / 4)
		}
		require.NoError(t, c.Close())
		require.Len(t, w.writes, 8)
		require.Equal(t, []time.Time{begin.Add(patience), begin.Add(3*patience/4 + patience), begin.Add(6*patience/4 + patience)}, w.deadlines)
	})
}

func TestCloseDoesNotWaitForAPeerThatIsSlowToTakeWhatIsLeft(t *testing.T) {
	ours, theirs := net.Pipe()
	c := New(ours)
	write(t, c, "the end of a page")
	require.NoError(t, c.Close())
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed, "who reads learns of it at once")
	all, err := io.ReadAll(theirs)
	require.NoError(t, err)
	require.Equal(t, "the end of a page", string(all))
}

// stuck is a wire whose peer takes nothing: a write ends when it is closed.
type stuck struct {
	wire
	done chan struct{}
}

func (s *stuck) Write([]byte) (int, error) {
	<-s.done
	return 0, net.ErrClosed
}

func (s *stuck) Close() error {
	close(s.done)
	return s.wire.Close()
}

func TestAPeerThatTakesNothingIsNotWaitedForForever(t *testing.T) {
	w := &stuck{done: make(chan struct{})}
	c := New(w)
	c.grace = time.Millisecond
	write(t, c, "nobody reads this")
	require.NoError(t, c.Close())
	<-w.done
	require.Empty(t, w.sent(t, c))
}

// pieces gives what it has in reads of those sizes, the last with an error.
type pieces struct {
	parts []string
	err   error
	asked []int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.asked = append(p.asked, len(b))
	if len(p.parts) == 0 {
		return 0, p.err
	}
	n := copy(b, p.parts[0])
	p.parts[0] = p.parts[0][n:]
	if p.parts[0] == "" {
		p.parts = p.parts[1:]
	}
	return n, nil
}

func TestSmallReadsAreTakenFromOneLargeOne(t *testing.T) {
	in := &pieces{parts: []string{"headbody", "next"}, err: io.EOF}
	c := New(&wire{in: in})
	small := make([]byte, 4)
	for _, want := range []string{"head", "body", "next"} {
		n, err := io.ReadFull(c, small)
		require.NoError(t, err)
		require.Equal(t, want, string(small[:n]))
	}
	require.Equal(t, []int{readSize, readSize}, in.asked)
	_, err := c.Read(small)
	require.ErrorIs(t, err, io.EOF)
}

func TestLargeReadsGoToTheConnectionItself(t *testing.T) {
	in := &pieces{parts: []string{"abcdef", "ghi"}, err: io.EOF}
	c := New(&wire{in: in})
	large := make([]byte, 8<<10)
	n, err := c.Read(large)
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(large[:n]))
	require.Nil(t, c.in, "a client of HTTP/2 has a buffer of its own")
	_, err = c.Read(large[:2])
	require.NoError(t, err)
	n, err = c.Read(large)
	require.NoError(t, err)
	require.Equal(t, "i", string(large[:n]), "first what is there")
	_, err = c.Read(large)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []int{8 << 10, readSize, 8 << 10}, in.asked)
}

func BenchmarkThreeSmallWrites(b *testing.B) {
	ours, theirs := tcpPair(b)
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	c := New(ours)
	defer c.Close()
	part := make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		for range 3 {
			if _, err := c.Write(part); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func tcpPair(b *testing.B) (ours, theirs net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	ours, err = net.Dial("tcp4", l.Addr().String())
	require.NoError(b, err)
	theirs, err = l.Accept()
	require.NoError(b, err)
	b.Cleanup(func() { theirs.Close() })
	return ours, theirs
}
