// Package pause waits between attempts.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// For waits for d, and tells whether ctx lasted as long.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Spread is d, over 0, made between half and one and a half as long: those who
// failed together do not come again together.
func Spread(d time.Duration) time.Duration { return d/2 + rand.N(d) }
