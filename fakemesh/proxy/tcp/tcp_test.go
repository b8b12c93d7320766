package tcp

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/socket"
)

// pair is a connection and its other end.
func pair(b *testing.B) (ours *socket.Conn, theirs net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	ours, err = socket.Dial(b.Context(), &net.Dialer{}, "tcp4", l.Addr().String())
	require.NoError(b, err)
	theirs, err = l.Accept()
	require.NoError(b, err)
	b.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// One message of 16 KiB from one connection to the other, in a Join that has
// begun.
func BenchmarkJoin(b *testing.B) {
	in, client := pair(b)
	out, server := pair(b)
	joined := make(chan struct{})
	go func() {
		Join(in, out)
		close(joined)
	}()
	message := make([]byte, 16<<10)
	got := make([]byte, len(message))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(server, got); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	server.Close()
	<-joined
}
