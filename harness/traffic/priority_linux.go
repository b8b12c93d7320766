package traffic

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// senderNice is the sender's nice value. It needs little of the machine, but
// that little on time.
const senderNice = -10

// RaisePriority puts this process before others that want the same cores, such
// as the pods that it sends to, so that requests leave when they are due. It
// needs root or CAP_SYS_NICE; without, requests may be late, which each of them
// records.
func RaisePriority() error {
	// the kernel keeps nice values by thread, and new threads take over those
	// of the ones that start them
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("raise the sender's priority: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("raise the sender's priority: %w", err)
		}
		err = syscall.Setpriority(syscall.PRIO_PROCESS, id, senderNice)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // a thread may end meanwhile
			return fmt.Errorf("raise the sender's priority: %w", err)
		}
	}
	return nil
}
