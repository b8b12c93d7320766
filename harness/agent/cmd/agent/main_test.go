package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/agent/call"
	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/harness/agent/sockets"
	"meshsim.dev/meshsim/harness/agent/twin"
)

// freePort returns a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestTheTwinsMeasureAndPrintOneLine(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr := freePort(t)
	served := make(chan error, 1)
	go func() { served <- run(ctx, []string{"twin-server", "--listen", addr}, nil) }()
	var out bytes.Buffer
	require.NoError(t, run(ctx, []string{"twin-client", "--plain=" + addr, "--meshed=" + addr, "--triples=5", "--payload=16", "--rate=1000"}, &out))
	cancel()
	require.NoError(t, <-served)

	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")))
	var got twin.Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, 16, got.PayloadBytes)
	require.Equal(t, []int{5, 5, 5}, []int{len(got.Plain), len(got.Meshed), len(got.PlainAgain)})
}

func TestTheStrangerPrintsWhatItMet(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"plaintext", "--targets=gone=" + freePort(t)}, &out))
	var got plaintext.Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, 2, got.Attempts)
	require.Zero(t, got.Refused+got.Accepted)
}

// echoing serves HTTP on a loopback address until the test ends.
func echoing(t *testing.T) string {
	t.Helper()
	addr := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- run(ctx, []string{"echo-server", "--http", addr, "--name", "web-0"}, nil) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	require.Eventually(t, func() bool {
		return run(ctx, []string{"call", "--strict", "--target=http://" + addr + "/"}, io.Discard) == nil
	}, 5*time.Second, 10*time.Millisecond)
	return addr
}

func TestCallsArePrintedALineEach(t *testing.T) {
	addr := echoing(t)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"call", "--target=http://" + addr + "/", "--count=3", "--rate=100", "--header=X-Order=o-1", "--show"}, &out))
	got, err := call.Decode(&out)
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.Equal(t, []any{true, 200, "web-0", "o-1"}, []any{got[2].OK, got[2].Status, got[2].Server, got[2].Headers.Get("X-Order")})
}

func TestStrictCallsFailWithTheFirstThatDid(t *testing.T) {
	target := "--target=http://" + echoing(t) + "/status/503"
	require.NoError(t, run(t.Context(), []string{"call", target}, &bytes.Buffer{}))
	require.ErrorContains(t, run(t.Context(), []string{"call", "--strict", target}, &bytes.Buffer{}), "call 0: 503")
}

func TestAJobEndsWithItsCall(t *testing.T) {
	target := "--target=http://" + echoing(t)
	require.NoError(t, run(t.Context(), []string{"job", target + "/"}, nil))
	require.ErrorContains(t, run(t.Context(), []string{"job", target + "/status/500"}, nil), "the job's call: call 0: 500")
}

func TestSocketsListTheAgentsOwnServer(t *testing.T) {
	addr := echoing(t)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"sockets"}, &out))
	var all []sockets.Socket
	require.NoError(t, json.Unmarshal(out.Bytes(), &all))
	require.True(t, slices.ContainsFunc(all, func(s sockets.Socket) bool { return s.State == "listen" && s.Local.String() == addr }))
}

func TestSleepEndsByItselfOrWithItsContext(t *testing.T) {
	require.NoError(t, run(t.Context(), []string{"sleep", "1ms"}, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run(ctx, []string{"sleep", "1h"}, nil))
}

func TestHoldEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run(ctx, []string{"hold"}, nil))
}

func TestWrongUseIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "usage:"},
		{"an unknown command", []string{"dance"}, `unknown command "dance"`},
		{"an unknown flag", []string{"twin-server", "--loud"}, "not defined: -loud"},
		{"no twins", []string{"twin-client"}, "twin-client needs"},
		{"no server", []string{"echo-server"}, "echo-server needs"},
		{"no protocol", []string{"call", "--target=host:1"}, "target"},
		{"no header", []string{"call", "--header=x"}, "is not NAME=VALUE"},
		{"no address", []string{"leaf"}, "dial"},
		{"no duration", []string{"sleep"}, "sleep takes a duration"},
		{"a wrong duration", []string{"sleep", "soon"}, "invalid duration"},
		{"no index", []string{"traffic", "--index=x"}, "is no number"},
		{"no plan", []string{"traffic", "--index=0", "--plan=/nowhere"}, "read the plan"},
		{"no targets", []string{"plaintext"}, "is not NAME=HOST:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.ErrorContains(t, run(t.Context(), c.args, &bytes.Buffer{}), c.want)
		})
	}
}
