//go:build !race

package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reading and writing of a socket that does not block.
func rawRead(fd int, p []byte) (int, syscall.Errno)  { return rawCall(unix.SYS_READ, fd, p) }
func rawWrite(fd int, p []byte) (int, syscall.Errno) { return rawCall(unix.SYS_WRITE, fd, p) }

func rawCall(call uintptr, fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}
