package proxy

import (
	"math"
	"runtime/debug"
)

// limits bound what clients can make a proxy hold.
type limits struct {
	connections int // of each side
	fresh       int // of these, those that have shown nothing yet
	requests    int // of each side, at a time
}

// What is reckoned for one, as measured and rounded up. There are more
// connections than requests, so that of those of HTTP some are always idle and
// can give way.
const (
	connectionBytes = 48 << 10
	requestBytes    = 64 << 10
)

// Most that a proxy takes upon itself without a limit of memory.
const (
	maxConnections = 8192
	maxRequests    = 6144
	minLimit       = 128
)

// limitsFor shares memory out: two thirds to connections and requests of both
// sides, the rest to everything else. memory is in bytes; math.MaxInt64 is no
// limit.
func limitsFor(memory int64) limits {
	share := memory / 6
	bound := func(each, least, most int64) int { return int(min(max(share/each, least), most)) }
	l := limits{
		connections: bound(connectionBytes, minLimit, maxConnections),
		requests:    bound(requestBytes, minLimit*3/4, maxRequests),
	}
	l.fresh = l.connections / 2
	return l
}

// memoryLimit is what GOMEMLIMIT says.
func memoryLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n > 0 {
		return n
	}
	return math.MaxInt64
}
