package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connection and its other end.
func pair(t testing.TB) (ours *Conn, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ours, err = Dial(context.Background(), &net.Dialer{}, "tcp4", l.Addr().String())
	require.NoError(t, err)
	c, err := l.Accept()
	require.NoError(t, err)
	theirs, _ = c.(*net.TCPConn)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func TestBytesGoBothWaysToTheirEnds(t *testing.T) {
	ours, theirs := pair(t)
	sent := make([]byte, 3<<20) // more than the sockets hold
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	go func() {
		_, _ = ours.Write(sent)
		_ = ours.CloseWrite()
	}()
	got, err := io.ReadAll(theirs)
	require.NoError(t, err)
	require.Equal(t, sent, got)
	go func() {
		_, _ = theirs.Write(sent)
		theirs.Close()
	}()
	got, err = io.ReadAll(ours)
	require.NoError(t, err)
	require.Equal(t, sent, got)
	n, err := ours.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// Errors are what net's own connection makes of the same.
func TestErrorsLookAsNetsOwn(t *testing.T) {
	reset := func(t *testing.T, theirs *net.TCPConn) {
		require.NoError(t, theirs.SetLinger(0))
		require.NoError(t, theirs.Close())
	}
	for name, tc := range map[string]struct {
		before func(t *testing.T, c net.Conn, theirs *net.TCPConn)
		write  bool
		is     error
	}{
		"reset by the peer": {before: func(t *testing.T, _ net.Conn, theirs *net.TCPConn) { reset(t, theirs) }, is: syscall.ECONNRESET},
		"closed":            {before: func(t *testing.T, c net.Conn, _ *net.TCPConn) { require.NoError(t, c.Close()) }, is: net.ErrClosed},
		"writing, closed":   {before: func(t *testing.T, c net.Conn, _ *net.TCPConn) { require.NoError(t, c.Close()) }, write: true, is: net.ErrClosed},
		"out of time": {before: func(t *testing.T, c net.Conn, _ *net.TCPConn) {
			require.NoError(t, c.SetDeadline(time.Now().Add(-time.Second)))
		}, is: os.ErrDeadlineExceeded},
		"writing, out of time": {before: func(t *testing.T, c net.Conn, _ *net.TCPConn) {
			require.NoError(t, c.SetDeadline(time.Now().Add(-time.Second)))
		}, write: true, is: os.ErrDeadlineExceeded},
		"the peer reads no more": {before: func(t *testing.T, c net.Conn, theirs *net.TCPConn) {
			reset(t, theirs)
			_, err := c.Read(make([]byte, 1))
			require.Error(t, err)
		}, write: true, is: syscall.EPIPE},
	} {
		t.Run(name, func(t *testing.T) {
			var errs [2]*net.OpError
			for i := range errs {
				ours, theirs := pair(t)
				var c net.Conn = ours
				if i == 1 {
					c = ours.TCPConn
				}
				tc.before(t, c, theirs)
				do := c.Read
				if tc.write {
					do = c.Write
				}
				n, err := do(make([]byte, 10))
				require.Zero(t, n)
				require.ErrorIs(t, err, tc.is)
				require.ErrorAs(t, err, &errs[i])
			}
			require.Equal(t, errs[1].Op, errs[0].Op)
			require.Equal(t, errs[1].Timeout(), errs[0].Timeout())
			require.Equal(t, errs[1].Err.Error(), errs[0].Err.Error())
		})
	}
}

func TestADeadlineEndsAReadAndAWriteThatWait(t *testing.T) {
	ours, _ := pair(t)
	require.NoError(t, ours.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := ours.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, ours.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := ours.Write(make([]byte, 64<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Positive(t, n, "what the sockets hold")
}

func TestClosingEndsAReadThatWaits(t *testing.T) {
	ours, _ := pair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := ours.Read(make([]byte, 1))
		ended <- err
	}()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, ours.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}

func TestDialTellsWhatIsWrong(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	_, err = Dial(context.Background(), &net.Dialer{}, "tcp4", l.Addr().String())
	require.True(t, errors.Is(err, syscall.ECONNREFUSED), err)
}

func BenchmarkReadAndWrite(b *testing.B) {
	ours, theirs := pair(b)
	for name, c := range map[string]net.Conn{"ours": ours, "net's": ours.TCPConn} {
		b.Run(name, func(b *testing.B) {
			echo(b, c, theirs)
		})
	}
}

// echo is one small message there and back.
func echo(b *testing.B, c net.Conn, theirs net.Conn) {
	b.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 64)
		for {
			n, err := theirs.Read(buf)
			if err != nil || buf[0] == 1 {
				return
			}
			if _, err := theirs.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	buf[0] = 1
	if _, err := c.Write(buf); err != nil {
		b.Fatal(err)
	}
	<-ended
}
