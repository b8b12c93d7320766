package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"meshsim.dev/meshsim/fakeshop/chart"
)

// A service calls those that the chart declares, and nobody else: otherwise
// policies would let in too many, or too few.
func TestServicesCallWhomTheChartDeclares(t *testing.T) {
	declared, err := chart.Declared()
	require.NoError(t, err)
	names := serviceNames()
	for _, s := range declared {
		require.Contains(t, names, s.Name)
		called := map[string]bool{chart.Database: true}
		var ends []func(context.Context)
		app := builders[s.Name](tools{
			metrics: prometheus.NewRegistry(), log: slog.New(slog.DiscardHandler),
			dial: func(service string) *grpc.ClientConn {
				called[service] = true
				conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, conn.Close()) })
				return conn
			},
			background: func(func(context.Context)) {},
			atEnd:      func(f func(context.Context)) { ends = append(ends, f) },
		})
		require.ElementsMatch(t, s.Calls, slices.Collect(maps.Keys(called)), s.Name)
		require.Equal(t, len(s.REST) > 0, len(app.REST) > 0, "%s: routes at the edge", s.Name)
		require.ElementsMatch(t, s.GRPC, app.EdgeMethods, s.Name)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		for _, end := range ends {
			end(ctx)
		}
		cancel()
	}
	require.Len(t, declared, len(names))
}
