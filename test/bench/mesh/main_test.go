package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// TestMain lets this test be its own child, as the program is.
func TestMain(m *testing.M) {
	if os.Getenv(envRole) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, nil, os.Getenv, os.Stdout, os.Stderr))
}

func TestARunWhosePartDoesNotStartEndsWithItsError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := bench(ctx, options{plan: quickPlan(), profiles: file, log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "the proxy front")
}

func TestARunMeasuresEveryProtocolOnEveryPath(t *testing.T) {
	p := plan{handshakes: 200 * time.Millisecond, handshakesTurn: 100 * time.Millisecond, bulk: 100 * time.Millisecond, bulkTurn: 100 * time.Millisecond, crowd: 2 * time.Second, crowdRate: 20}
	p.add(200, 500*time.Millisecond, 0)
	p.add(goalHeld, 200*time.Millisecond, 100*time.Millisecond)
	r, err := bench(t.Context(), options{plan: p, quick: true, log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	paths := []string{pathPlain, pathAgain, pathMesh}
	if r.Host.Nginx {
		paths = append(paths, pathNginx)
	}
	require.Len(t, r.Cells, 2*3*len(paths))
	for i, f := range r.Cells {
		require.Equal(t, paths[i%len(paths)], f.Path)
		require.Zero(t, f.Failed, "%v", f.Errors)
		require.Positive(t, f.Requests)
		require.Positive(t, f.P50)
		require.GreaterOrEqual(t, f.P99, f.P50)
		if f.Path == pathMesh {
			require.Positive(t, f.FrontCPU)
			require.Positive(t, f.BackCPU)
		}
	}
	require.Len(t, r.Handshakes, len(paths)-2)
	for _, h := range r.Handshakes {
		require.Zero(t, h.Failed)
		require.Positive(t, h.Handshakes)
		require.Positive(t, h.BackCPU)
	}
	require.Len(t, r.Bulk, 2*2*(len(paths)-1))
	for _, b := range r.Bulk {
		require.Positive(t, b.MiBPerSecond)
	}
	require.Zero(t, r.Crowd.Failed, "%v", r.Crowd.Errors)
	require.Greater(t, r.Crowd.Front.Bytes, int64(1<<20))
	require.Greater(t, r.Crowd.Back.Bytes, int64(1<<20))
	require.Len(t, r.Goals, 3*3+2)

	var out bytes.Buffer
	require.NoError(t, r.writeTables(&out))
	require.Contains(t, out.String(), "resident")
}

func TestTimeRunsFromTheScheduledInstantAndFailuresHaveNoLatency(t *testing.T) {
	s := newSchedule(2, 100, 300*time.Millisecond, 0, 5)
	slow := func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
	broken := func(context.Context) error { return errors.New("broken") }
	got, err := drive(t.Context(), s, []func(context.Context) error{slow, broken})
	require.NoError(t, err)
	require.Zero(t, got[0].failures())
	require.Equal(t, int64(got[0].sent), got[0].latency.TotalCount())
	require.GreaterOrEqual(t, got[0].latency.Min(), int64(19_900))
	require.Equal(t, got[1].sent, got[1].failures())
	require.Equal(t, map[string]int{"broken": got[1].sent}, got[1].failed)
	require.Zero(t, got[1].latency.TotalCount())
}

func TestAnEndedContextEndsTheLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := drive(ctx, newSchedule(1, 1, time.Hour, 0, 5), []func(context.Context) error{func(context.Context) error { return nil }})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWrongUseIsToldApart(t *testing.T) {
	none := func(string) string { return "" }
	for _, args := range [][]string{{"-no-such-flag"}, {"extra"}} {
		var stderr bytes.Buffer
		require.Equal(t, sheet.CodeUsage, run(t.Context(), args, none, &stderr, &stderr))
		require.NotEmpty(t, stderr.String())
	}
	var stderr bytes.Buffer
	role := func(name string) string { return map[string]string{envRole: "cook", envTask: "{}"}[name] }
	require.Equal(t, sheet.CodeFailed, run(t.Context(), nil, role, &stderr, &stderr))
	require.Contains(t, stderr.String(), "no such role: cook")
}

func TestAllProtocolsAreInThePlans(t *testing.T) {
	for _, p := range []plan{fullPlan(), quickPlan()} {
		seen := map[echo.Protocol][]float64{}
		for _, c := range p.cells {
			seen[c.protocol] = append(seen[c.protocol], c.rate)
		}
		for _, proto := range []echo.Protocol{echo.HTTP, echo.GRPC, echo.TCP} {
			require.Equal(t, []float64{20, 200, 2000}, seen[proto])
		}
	}
}
