package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
)

// waitHop is told when a connection to the database was long in coming.
const (
	waitHop  = hop + "-connection"
	longWait = time.Millisecond
)

// tracer puts every statement into the record of the request that it is for.
type tracer struct{}

var (
	_ pgx.QueryTracer       = tracer{}
	_ pgxpool.AcquireTracer = tracer{}
)

type beganKey struct{}

func begin(ctx context.Context) context.Context {
	if hops.From(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, beganKey{}, time.Now())
}

func end(ctx context.Context, service string, err error, unlessBelow time.Duration) {
	began, ok := ctx.Value(beganKey{}).(time.Time)
	if !ok {
		return
	}
	took := time.Since(began)
	if err == nil && took < unlessBelow {
		return
	}
	hops.From(ctx).Add(hops.Call{Service: service, Began: began, Took: took, Code: fail.Code(at("", err))})
}

func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return begin(ctx)
}

func (tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	end(ctx, hop, data.Err, 0)
}

func (tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return begin(ctx)
}

func (tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	end(ctx, waitHop, data.Err, longWait)
}
