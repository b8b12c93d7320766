package alb

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exchangeOn sends one request on a connection and reads its answer.
func exchangeOn(t *testing.T, conn net.Conn, in *bufio.Reader) *http.Response {
	t.Helper()
	_, err := io.WriteString(conn, "GET /api/x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	require.NoError(t, err)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res
}

func TestAnIdleClientIsCutOff(t *testing.T) {
	s := onePod(t, idleAfter(300*time.Millisecond), toPods(), func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name     string
		requests int
	}{
		{"one that never asks", 0},
		{"one that asks no more", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.http)
			require.NoError(t, err)
			defer conn.Close()
			in := bufio.NewReader(conn)
			began := time.Now()
			for range c.requests {
				require.Equal(t, 200, exchangeOn(t, conn, in).StatusCode)
				time.Sleep(200 * time.Millisecond) // less than the idle timeout
			}
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			require.Greater(t, time.Since(began), 300*time.Millisecond)
		})
	}
}

func TestAnIdleHTTP2ClientIsCutOff(t *testing.T) {
	s := start(t, func(b *Balancer) {
		b.table.live.Store(&routes{settings: settings{Idle: 300 * time.Millisecond, KeepAlive: time.Hour}})
		idleAfter(300 * time.Millisecond)(b)
	})
	dials := 0
	transport := &http.Transport{Protocols: protocols(true, false), DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ask := func() {
		res, err := client.Post("http://"+s.grpc+"/x", "application/grpc", nil)
		require.NoError(t, err)
		require.Equal(t, 404, res.StatusCode)
		require.NoError(t, res.Body.Close())
	}
	ask()
	time.Sleep(150 * time.Millisecond)
	ask()
	require.Equal(t, 1, dials, "a connection is kept")
	time.Sleep(600 * time.Millisecond)
	ask()
	require.Equal(t, 2, dials, "but not for ever")
}

func TestAConnectionIsNotKeptForEver(t *testing.T) {
	s := onePod(t, func(b *Balancer) { b.watcher.settings.KeepAlive = 200 * time.Millisecond }, toPods(), func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", s.http)
	require.NoError(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	require.False(t, exchangeOn(t, conn, in).Close)
	time.Sleep(250 * time.Millisecond)
	require.True(t, exchangeOn(t, conn, in).Close, "its last answer says so")
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	entries := s.lastEntries(t, 2)
	require.Equal(t, entries[0]["conn_trace_id"], entries[1]["conn_trace_id"])
	require.Equal(t, entries[0]["client:port"], entries[1]["client:port"])
}
