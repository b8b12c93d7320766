//go:build !linux

package behaviour

import "time"

// threadTime is the time of day where the CPU time of a thread cannot be told.
func threadTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
