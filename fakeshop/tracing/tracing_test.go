package tracing_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	"meshsim.dev/meshsim/fakeshop/tracing"
)

const (
	id     = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent = "00-" + id + "-00f067aa0ba902b7-01"
)

// sent is what a call made with ctx would carry.
func sent(t *testing.T, ctx context.Context) (traceparent, tracestate string) {
	t.Helper()
	md, _ := metadata.FromOutgoingContext(tracing.ToGRPC(ctx))
	if v := md.Get("tracestate"); len(v) > 0 {
		tracestate = v[0]
	}
	require.Len(t, md.Get("traceparent"), 1)
	return md.Get("traceparent")[0], tracestate
}

func TestATraceGoesThroughAServiceUnderASpanOfItsOwn(t *testing.T) {
	ways := map[string]context.Context{
		"by HTTP": tracing.FromHTTP(t.Context(), http.Header{"Traceparent": {parent}, "Tracestate": {"vendor=1"}}),
		"by gRPC": tracing.FromGRPC(metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", parent, "tracestate", "vendor=1"))),
	}
	for name, ctx := range ways {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, id, tracing.ID(ctx))
			traceparent, tracestate := sent(t, ctx)
			require.Regexp(t, "^00-"+id+"-[0-9a-f]{16}-01$", traceparent)
			require.NotContains(t, traceparent, "00f067aa0ba902b7")
			require.Equal(t, "vendor=1", tracestate)
		})
	}
}

func TestWithoutAUsableTraceOneBegins(t *testing.T) {
	for name, header := range map[string]string{
		"none":              "",
		"cut off":           parent[:30],
		"of zeros":          "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"in capitals":       "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"an unknown format": "ff-" + id + "-00f067aa0ba902b7-01",
	} {
		t.Run(name, func(t *testing.T) {
			ctx := tracing.FromHTTP(t.Context(), http.Header{"Traceparent": {header}})
			require.Regexp(t, "^[0-9a-f]{32}$", tracing.ID(ctx))
			require.NotEqual(t, id, tracing.ID(ctx))
			other := tracing.FromHTTP(t.Context(), nil)
			require.NotEqual(t, tracing.ID(other), tracing.ID(ctx))
			traceparent, _ := sent(t, ctx)
			require.Contains(t, traceparent, tracing.ID(ctx))
		})
	}
	require.Empty(t, tracing.ID(context.Background()))
}
