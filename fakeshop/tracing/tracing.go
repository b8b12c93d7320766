// Package tracing carries a trace through the shop by the W3C's headers
// traceparent and tracestate: whoever sends them finds their trace's id in the
// shop's logs. Spans are not collected; hops are what a caller gets back.
package tracing

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

var w3c propagation.TraceContext

// FromHTTP goes on with the trace of a request, or begins one.
func FromHTTP(ctx context.Context, h http.Header) context.Context {
	return step(w3c.Extract(ctx, propagation.HeaderCarrier(h)))
}

// FromGRPC goes on with the trace of the call that ctx belongs to, or begins
// one.
func FromGRPC(ctx context.Context) context.Context {
	return step(w3c.Extract(ctx, incoming{ctx}))
}

// ToGRPC gives a call the trace of ctx.
func ToGRPC(ctx context.Context) context.Context {
	out := outgoing{ctx}
	w3c.Inject(ctx, &out)
	return out.ctx
}

// ID is the id of the trace that ctx belongs to, "" when there is none.
func ID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		return sc.TraceID().String()
	}
	return ""
}

// step gives this service a span of its own in the trace.
func step(ctx context.Context) context.Context {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		var id trace.TraceID
		binary.BigEndian.PutUint64(id[:8], rand.Uint64()|1) // never all zeros
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
		sc = sc.WithTraceID(id).WithTraceFlags(trace.FlagsSampled)
	}
	var span trace.SpanID
	binary.BigEndian.PutUint64(span[:], rand.Uint64()|1)
	return trace.ContextWithSpanContext(ctx, sc.WithSpanID(span).WithRemote(false))
}

// incoming reads a call's metadata, without copying all of it.
type incoming struct{ ctx context.Context }

func (c incoming) Get(key string) string {
	if v := metadata.ValueFromIncomingContext(c.ctx, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (incoming) Set(string, string) {}
func (incoming) Keys() []string     { return nil }

type outgoing struct{ ctx context.Context }

func (*outgoing) Get(string) string { return "" }
func (*outgoing) Keys() []string    { return nil }
func (c *outgoing) Set(key, value string) {
	c.ctx = metadata.AppendToOutgoingContext(c.ctx, key, value)
}
