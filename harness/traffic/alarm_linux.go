package traffic

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one goroutine at instants. Go's own timers go off when epoll's wait
// is over, which is counted in whole milliseconds: half of one late on average. A
// timerfd is an event that ends that wait itself, at its microsecond.
type alarm struct {
	file *os.File
	bell syscall.RawConn
}

// newAlarm makes one. Where the machine has none left, Go's timers have to do.
func newAlarm() *alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &alarm{}
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	bell, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return &alarm{}
	}
	return &alarm{file, bell}
}

// until returns when t has come.
func (a *alarm) until(t time.Time) {
	if a.bell != nil && time.Until(t) > 0 {
		// set again whenever it rang; each setting takes back that it did
		_ = a.bell.Read(func(fd uintptr) (over bool) { return !set(fd, time.Until(t)) })
	}
	time.Sleep(time.Until(t)) // where the bell failed
}

// set has a timerfd ring after a while; false when there is none, or it cannot.
func set(fd uintptr, after time.Duration) bool {
	if after <= 0 {
		return false
	}
	return unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}, nil) == nil
}

func (a *alarm) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
}
