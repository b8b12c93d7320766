package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/clusters/pause"
)

// FollowOptions say what is followed and how often it is told.
type FollowOptions struct {
	Options
	Node  string        // what the snapshots name
	Every time.Duration // between two snapshots
}

// room is what the kernel may hold until it is read: bursts while this program
// naps, or waits for a core.
const room = 16 << 20

// nap is how long packets may gather; what the room does not hold is counted as
// dropped. Times that are told are as coarse as that.
const nap = 100 * time.Millisecond

// longestPacket is one that the kernel has merged.
const longestPacket = 256 << 10

// Follow looks at every packet of this network namespace until ctx ends, and
// tells what it saw each time that Every has passed, and in the end. It needs
// CAP_NET_RAW.
func Follow(ctx context.Context, o FollowOptions, tell func(Snapshot) error) error {
	conn, err := listen(o.Networks)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	if err := widen(raw); err != nil {
		return err
	}
	f := follower{options: o, conn: conn, raw: raw, buffer: make([]byte, longestPacket), table: NewTable(o.Options), tell: tell}
	if f.spent, err = cpuTime(); err != nil {
		return err
	}
	return f.run(ctx)
}

func listen(n Networks) (*packet.Conn, error) {
	program, err := n.filter()
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	// Index 0 is every link, also those that are yet to come. Without their own
	// headers, packets of all kinds of links look the same.
	conn, err := packet.Listen(&net.Interface{Index: 0}, packet.Datagram, unix.ETH_P_ALL, &packet.Config{Filter: raw})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return conn, nil
}

// widen gives the socket its room, or what the kernel grants of it.
func widen(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) {
		if set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); errors.Is(set, unix.EPERM) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, room)
		}
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("widen the packet socket: %w", err)
	}
	return nil
}

// follower is one Follow under way.
type follower struct {
	options FollowOptions
	conn    *packet.Conn
	raw     syscall.RawConn // conn's
	buffer  []byte
	table   *Table
	tell    func(Snapshot) error
	seq     int
	spent   time.Duration
}

func (f *follower) run(ctx context.Context) error {
	begun := time.Now()
	for {
		if err := f.read(ctx, begun.Add(f.options.Every)); err != nil {
			return err
		}
		now := time.Now()
		if err := f.snapshot(now, now.Sub(begun)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		begun = now
	}
}

// read takes packets until the time has come, or ctx ends: those that have
// gathered, then it naps. Woken by each packet, it would take a core away from
// those whom it listens to several times for each of their calls.
func (f *follower) read(ctx context.Context, until time.Time) error {
	for {
		if err := f.drain(); err != nil {
			return err
		}
		left := time.Until(until)
		if left <= 0 || ctx.Err() != nil {
			return nil
		}
		_ = pause.For(ctx, min(left, nap)) // at ctx's end, what has gathered is taken
	}
}

// drain takes all that the kernel has gathered, also when it is time to tell: what
// came before a snapshot's end belongs into it. It never waits, and ends after a
// nap's time where packets come faster than they are taken.
func (f *follower) drain() (err error) {
	until := time.Now().Add(nap)
	failed := f.raw.Read(func(fd uintptr) bool {
		for now := time.Now(); err == nil && now.Before(until); {
			var n int
			n, err = unix.Read(int(fd), f.buffer)
			now = time.Now()
			switch {
			case err == nil:
				f.table.Packet(now, f.buffer[:n])
			case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.EINTR):
				err = nil // one of the links has gone, or a signal came
			}
		}
		return true
	})
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	if err = errors.Join(failed, err); err != nil {
		return fmt.Errorf("read a packet: %w", err)
	}
	return nil
}

func (f *follower) snapshot(now time.Time, took time.Duration) error {
	s := f.table.Snapshot(now)
	seen, err := f.conn.Stats() // counts from the last time on
	if err != nil {
		return fmt.Errorf("ask for the packets that were dropped: %w", err)
	}
	spent, err := cpuTime()
	if err != nil {
		return err
	}
	if s.RSSBytes, err = residentBytes(); err != nil {
		return err
	}
	f.seq++
	s.Seq, s.Node, s.Seconds, s.Drops = f.seq, f.options.Node, took.Seconds(), uint64(seen.Drops)
	s.CPUSeconds, f.spent = (spent - f.spent).Seconds(), spent
	return f.tell(s)
}

// cpuTime is what this program has used, the kernel's work for it included.
func cpuTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("ask for the CPU time used: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

func residentBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("ask for the memory used: %w", err)
	}
	columns := strings.Fields(string(text))
	if len(columns) < 2 {
		return 0, errors.New("ask for the memory used: statm has no second column")
	}
	pages, err := strconv.ParseInt(columns[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ask for the memory used: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
