// Package pause waits between attempts, and where a service is told to be slow.
package pause

import (
	"context"
	"time"
)

// For waits for d, or returns why ctx ended before.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
