package tcp

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is an Acceptor on loopback that hands what it accepts to the test.
type door struct {
	t    *testing.T
	addr string
	acc  *Acceptor
	in   chan *Tracked
	shed atomic.Int64
}

func open(t *testing.T, limit, fresh int) *door {
	t.Helper()
	d := &door{t: t, in: make(chan *Tracked, 1024)}
	d.acc = &Acceptor{
		Max: limit, MaxNew: fresh, Shed: func(n int) { d.shed.Add(int64(n)) },
		Handle: func(_ context.Context, c net.Conn) { d.in <- c.(*Tracked) },
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	d.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.acc.Serve(context.Background(), l) })
	t.Cleanup(func() {
		l.Close()
		d.acc.CloseAll()
		wg.Wait()
	})
	return d
}

// come is one more client, and its connection as it was accepted.
func (d *door) come() (client net.Conn, accepted *Tracked) { return d.comeFrom(1) }

// comeFrom comes from 127.0.0.ip.
func (d *door) comeFrom(ip byte) (client net.Conn, accepted *Tracked) {
	d.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, ip)}}
	c, err := dialer.Dial("tcp4", d.addr)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { c.Close() })
	return c, <-d.in
}

// gone says that the other side has closed a connection.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestWhoHasBeenOfNoUseForLongestGivesWay(t *testing.T) {
	d := open(t, 3, 0)
	oldest, first := d.come()
	require.True(t, first.Hold()) // in use: it stays
	second, _ := d.come()
	third, _ := d.come()
	require.Equal(t, 3, d.acc.Open())
	_, fourth := d.come()
	gone(t, second)
	require.Equal(t, 3, d.acc.Open())
	require.EqualValues(t, 1, d.shed.Load())

	first.Release() // now it is the one that was of use last
	require.True(t, fourth.Hold())
	d.come()
	gone(t, third)
	d.come()
	_, err := oldest.Write([]byte("x"))
	require.NoError(t, err)
	require.EqualValues(t, 3, d.shed.Load())
}

func TestWhenAllAreInUseTheNewOneIsRefused(t *testing.T) {
	d := open(t, 2, 0)
	for range 2 {
		_, a := d.come()
		require.True(t, a.Hold())
	}
	c, err := net.Dial("tcp4", d.addr)
	require.NoError(t, err)
	defer c.Close()
	gone(t, c)
	require.Equal(t, 2, d.acc.Open())
	require.EqualValues(t, 1, d.shed.Load())
}

func TestAFloodPushesOutItsOwnBeforeAConnectionThatAnotherKeeps(t *testing.T) {
	d := open(t, 4, 0)
	_, kept := d.comeFrom(2)
	require.True(t, kept.Hold())
	kept.Release() // a request has been served, the next may be on its way
	flood := func() net.Conn {
		c, a := d.comeFrom(3)
		a.Carry() // each of them has said something
		return c
	}
	first, second := flood(), flood()
	flood()
	flood()
	gone(t, first)
	flood()
	gone(t, second)
	require.True(t, kept.Hold(), "though it was of no use for longest")
}

func TestThoseThatHaveShownNothingYetHaveALimitOfTheirOwn(t *testing.T) {
	d := open(t, 100, 2)
	_, settled := d.come()
	require.True(t, settled.Hold())
	settled.Release()
	a, _ := d.come()
	d.come()
	d.come()
	gone(t, a)
	require.Equal(t, 3, d.acc.Open())
	require.True(t, settled.Hold(), "who has shown what it is for is not meant")
}

func TestWhatWasGivenUpCannotBeHeldAnyMore(t *testing.T) {
	d := open(t, 1, 0)
	_, a := d.come()
	d.come()
	require.False(t, a.Hold())
	require.NoError(t, a.Close())
	require.Equal(t, 1, d.acc.Open(), "its end counts once")
}

func TestAFloodLeavesNoMoreThanTheLimit(t *testing.T) {
	const limit = 50
	d := open(t, limit, 20)
	for range 1000 {
		c, err := net.Dial("tcp4", d.addr)
		require.NoError(t, err)
		defer c.Close()
	}
	require.Eventually(t, func() bool { return d.acc.Open()+int(d.shed.Load()) == 1000 }, 5*time.Second, 5*time.Millisecond)
	require.LessOrEqual(t, d.acc.Open(), 20)
	require.LessOrEqual(t, d.acc.fresh.Load(), int64(20))
}

func TestAHolderIsFoundUnderWhateverIsAroundIt(t *testing.T) {
	d := open(t, 1, 0)
	_, a := d.come()
	require.Same(t, a, HolderOf(&metered{Conn: a}))
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	require.True(t, HolderOf(one).Hold(), "what nobody tracks never gives way")
}

func TestJoinedBytesGoBothWaysUntilBothHaveEnded(t *testing.T) {
	front, back := open(t, 1, 0), open(t, 1, 0)
	client, a := front.come()
	b, server := back.come()
	done := make(chan struct{})
	go func() {
		defer close(done)
		Join(a, b)
	}()
	say := func(from, to net.Conn, word string) {
		_, err := io.WriteString(from, word)
		require.NoError(t, err)
		got := make([]byte, len(word))
		_, err = io.ReadFull(to, got)
		require.NoError(t, err)
		require.Equal(t, word, string(got))
	}
	say(client, server, "question")
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	_, err := server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "half a close passes")
	say(server, client, "answer")
	require.NoError(t, server.CloseWrite())
	gone(t, client)
	<-done
	require.Zero(t, front.acc.Open())
}

func TestBytesThatPassKeepAConnectionUntilItHasBeenQuietForLong(t *testing.T) {
	front, back := open(t, 1, 0), open(t, 1, 0)
	client, a := front.come()
	b, server := back.come()
	done := make(chan struct{})
	go func() {
		defer close(done)
		Join(a, b)
	}()
	_, err := io.WriteString(client, "x")
	require.NoError(t, err)
	_, err = io.ReadFull(server, make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, front.acc.evict(1, func(t *Tracked) bool { return t.until.Load() < time.Now().UnixNano() }))
	require.Positive(t, a.until.Load()-time.Now().Add(50*time.Second).UnixNano())
	a.until.Store(time.Now().UnixNano() - 1) // a minute later
	front.come()
	gone(t, client)
	<-done
}

func TestWhenAllCarryBytesTheAddressWithMostOfThemGivesWay(t *testing.T) {
	d := open(t, 4, 0)
	from := func(ip byte) (net.Conn, *Tracked) {
		c, a := d.comeFrom(ip)
		a.Carry()
		return c, a
	}
	_, modest := from(2)
	first, _ := from(3)
	from(3)
	from(3)
	from(2)
	gone(t, first)
	require.True(t, modest.Hold())
	// Two each: nobody has more than half, and the new one is refused.
	c, err := net.Dial("tcp4", d.addr)
	require.NoError(t, err)
	defer c.Close()
	gone(t, c)
}
