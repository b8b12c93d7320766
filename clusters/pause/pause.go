// Package pause waits between attempts, and wherever something takes its time.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// For waits for d, or returns why ctx ended before; with a d of 0 or less it
// only looks whether ctx has ended.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Spread is d, over 0, made between half and one and a half as long: those who
// failed together do not come again together.
func Spread(d time.Duration) time.Duration { return d/2 + rand.N(d) }
