package behaviour

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the CPU time that the calling thread has used so far.
func threadTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		return time.Duration(time.Now().UnixNano()) // as on systems that do not tell
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
