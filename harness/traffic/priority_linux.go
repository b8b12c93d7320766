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
// records. lower undoes what would outlast this process.
func RaisePriority() (lower func(), err error) {
	if err := raiseThreads(); err != nil {
		return func() {}, fmt.Errorf("raise the sender's priority: %w", err)
	}
	return raiseSession(), nil
}

// autogroup holds the session's nice value. Where the kernel shares cores out
// among sessions first, those of processes count within their session only.
const autogroup = "/proc/self/autogroup"

// raiseSession raises the session, where that counts.
func raiseSession() (lower func()) {
	text, err := os.ReadFile(autogroup)
	if err != nil {
		return func() {}
	}
	var number, before int
	if _, err := fmt.Sscanf(string(text), "/autogroup-%d nice %d", &number, &before); err != nil || before <= senderNice {
		return func() {}
	}
	set := func(nice int) { _ = os.WriteFile(autogroup, []byte(strconv.Itoa(nice)), 0) } // as good as it gets
	set(senderNice)
	return func() { set(before) }
}

func raiseThreads() error {
	// the kernel keeps nice values by thread, and new threads take over those
	// of the ones that start them
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		err = syscall.Setpriority(syscall.PRIO_PROCESS, id, senderNice)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // a thread may end meanwhile
			return err
		}
	}
	return nil
}
