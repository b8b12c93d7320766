package store

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/clusters/pause"
)

// How a statement is repeated whose connection broke, or could not be had.
const (
	freshTries = mostConns + 1 // at once: every connection of the pool may be dead
	firstWait  = 20 * time.Millisecond
	mostWait   = 300 * time.Millisecond
	bridgeMost = 5 * time.Second // when the caller sets no end
)

// do works in the primary database, and bridges its absence: while it restarts,
// work is tried again until ctx ends. The work must be such that doing it twice
// is doing it once; all of the shop's is, it goes by keys.
func (d *DB) do(ctx context.Context, doing string, work func(context.Context, pool) error) error {
	if _, ends := ctx.Deadline(); !ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bridgeMost)
		defer cancel()
	}
	var lost error // the last error that was the connection's
	wait := firstWait
	for try := 1; ; try++ {
		err := work(ctx, d.pool)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && lost != nil {
			return at(doing, lost) // which says more than that the time is over
		}
		if !broken(err) || ctx.Err() != nil {
			return at(doing, err)
		}
		lost = err
		if try <= freshTries && !refusedNow(err) {
			continue
		}
		if pause.For(ctx, pause.Spread(wait)) != nil {
			return at(doing, lost)
		}
		wait = min(2*wait, mostWait)
	}
}

// broken tells whether an error is a connection's, or a moment's, and not the
// statement's.
func broken(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57P"), strings.HasPrefix(pg.Code, "53"):
			return true // lost, shutting down or starting, too many
		case strings.HasPrefix(pg.Code, "40"):
			return true // deadlock or serialisation: rolled back
		case strings.HasPrefix(pg.Code, "28"):
			return true // a login that was rotated away; the latest is being asked for
		}
		return false
	}
	return code(err) == codes.Unavailable
}

// refusedNow tells whether a new connection was refused: another one will be.
func refusedNow(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting
}

// replica is a copy of the database that is a little behind.
type replica struct {
	pool      pool
	awayUntil atomic.Int64 // UnixNano; until then it is not asked
}

// away is how long a replica that failed is left alone.
const away = 10 * time.Second

// look reads what may be a little old: from the replica where there is one that
// answers, else from the primary.
func (d *DB) look(ctx context.Context, doing string, work func(context.Context, pool) error) error {
	r := d.replica
	if r == nil || time.Now().UnixNano() < r.awayUntil.Load() {
		return d.do(ctx, doing, work)
	}
	rctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	err := work(rctx, r.pool)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || code(err) == codes.InvalidArgument {
		return at(doing, err) // the caller's own fault
	}
	r.awayUntil.Store(time.Now().Add(away).UnixNano())
	return d.do(ctx, doing, work)
}

// readWithin is how long the replica may take before the primary is asked.
const readWithin = time.Second

// found tells an absent row from an error.
func found(known *bool, err error) error {
	*known = err == nil
	if err == pgx.ErrNoRows {
		return nil
	}
	return err
}
