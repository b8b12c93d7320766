package harness

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// limits are how long may be looked at what a rehearsal has left.
type limits struct {
	settle time.Duration // until the shop has settled its orders
	probe  time.Duration // for one probe, 0 for as long as it takes
	whole  time.Duration // for all, 0 for as long as it takes
}

// earlyLimits are those where the rehearsal ended before its last phase did: who
// pressed Ctrl-C does not want to wait, and a cluster in trouble may not answer.
func earlyLimits() limits {
	return limits{settle: 8 * time.Second, probe: 12 * time.Second, whole: 30 * time.Second}
}

// conclude ends the traffic and looks at what is left. Where cause ended the
// phases early, that is what to look for, so it is done all the same, for a while
// and also when ctx has ended; cause is returned.
func (r *rehearsal) conclude(ctx context.Context, cause error, stopSender func() error, patience time.Duration) error {
	r.concluded, r.run.Interrupted = true, cause != nil && ctx.Err() != nil
	stopping, done := ctx, context.CancelFunc(func() {})
	if cause != nil {
		stopping, done = outliving(ctx, r.early.whole)
	}
	// What is in flight still belongs to the last phase; nothing new is sent.
	err := errors.Join(cause, r.stopAgents(stopping), stopSender())
	done()
	if err != nil {
		r.lookBack(ctx)
		return err
	}
	if err := errors.Join(r.observeWire(ctx), r.endCapture(ctx)); err != nil {
		return err
	}
	return errors.Join(r.observe(ctx, limits{settle: patience}), r.record.err())
}

// lookBack looks at what a rehearsal has left that ended early. What cannot be
// looked at is a warning in the record.
func (r *rehearsal) lookBack(ctx context.Context) {
	looking, done := outliving(ctx, r.early.whole)
	defer done()
	err := r.observe(looking, r.early)
	if err == nil && r.webhooks != nil {
		err = r.observeUse(looking, r.record.PhaseAt(r.record.now()))
	}
	if err == nil && ctx.Err() == nil { // captures end with ctx
		err = r.observeWire(looking)
	}
	if err != nil {
		r.record.Warn("the run ended early", fmt.Sprintf("not all that it left was looked at: %v", err))
	}
}

// outliving is a context for what is to be done although ctx may have ended.
func outliving(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("it took longer than %s", limit))
}
