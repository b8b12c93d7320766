package traffic

import (
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHeapGrowsByAsMuchAsTheBallastBeforeItIsCollected(t *testing.T) {
	before := heapGoal()
	drop := Ballast()
	with := heapGoal()
	drop()
	require.GreaterOrEqual(t, with, before+ballastSize)
	require.Less(t, heapGoal(), before+ballastSize, "and no longer once it is dropped")
}

// heapGoal is the heap's size at which garbage is collected next.
func heapGoal() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
