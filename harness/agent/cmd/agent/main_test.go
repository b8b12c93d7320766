package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/agent/plaintext"
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
		{"no targets", []string{"plaintext"}, "is not NAME=HOST:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.ErrorContains(t, run(t.Context(), c.args, &bytes.Buffer{}), c.want)
		})
	}
}
