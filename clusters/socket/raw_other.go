//go:build race || !linux

package socket

import (
	"errors"
	"syscall"
)

// By these the race detector learns that what is read comes after what was written.
func rawRead(fd int, p []byte) (int, syscall.Errno)  { return told(syscall.Read(fd, p)) }
func rawWrite(fd int, p []byte) (int, syscall.Errno) { return told(syscall.Write(fd, p)) }

func told(n int, err error) (int, syscall.Errno) {
	var errno syscall.Errno
	errors.As(err, &errno)
	return n, errno
}
