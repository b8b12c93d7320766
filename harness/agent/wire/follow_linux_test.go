package wire

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWhatCameBeforeASnapshotsEndIsInItAlsoWhenTheTimeIsOver(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	kernel, socket := os.NewFile(uintptr(ends[0]), "kernel"), os.NewFile(uintptr(ends[1]), "socket")
	defer kernel.Close()
	defer socket.Close()
	packet := packetOf(t, netip.MustParseAddrPort(webPod), netip.MustParseAddrPort(stockPod), layers.TCP{ACK: true}, []byte("x"))
	for range 5 {
		_, err := kernel.Write(packet)
		require.NoError(t, err)
	}
	f := follower{buffer: make([]byte, longestPacket), table: NewTable(Options{})}
	f.raw, err = socket.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, f.read(t.Context(), time.Now().Add(-time.Second)))
	require.Equal(t, uint64(5), f.table.Snapshot(noon).Packets)
}
