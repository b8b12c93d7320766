package behaviour

import (
	"context"
	"crypto/sha256"
	"runtime"
	"time"
)

// burn keeps a core busy until it has used so much CPU time, or ctx ends. It is
// the thread's time that is counted: on a busy machine it takes longer, and costs
// the same.
func burn(ctx context.Context, cpu time.Duration) error {
	if cpu <= 0 {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadTime()
	var block [1024]byte
	for threadTime()-began < cpu {
		if err := ctx.Err(); err != nil {
			return err
		}
		for range 16 {
			sum := sha256.Sum256(block[:])
			copy(block[:], sum[:])
		}
	}
	return nil
}
