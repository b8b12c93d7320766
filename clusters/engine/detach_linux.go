package engine

import "syscall"

func detach(point string) error { return syscall.Unmount(point, syscall.MNT_DETACH) }
