// Package filelock puts several meshsim processes in line before one thing.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
)

const poll = 100 * time.Millisecond

// Lock takes an exclusive lock on the file at path, making it and its folder
// where needed, and waits for it until ctx ends. what names the locked thing in
// errors. The kernel drops the lock when the process dies, so a killed one
// leaves nothing to clean. The file stays: removing it would let two in.
func Lock(ctx context.Context, path, what string) (unlock func(), err error) {
	f, err := open(path)
	if err != nil {
		return nil, fault.NewEnvironment(fmt.Errorf("lock %s: %w", what, err),
			"make the cache folder writable, or set MESHSIM_CACHE to one that is")
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", what, err)
		}
		if err := pause.For(ctx, poll); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("wait for another meshsim to finish with %s: %w", what, err)
		}
	}
}

// Try takes the lock when nobody holds it. held says that somebody does.
func Try(path, what string) (unlock func(), held bool, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errHeld)
	unlock, err = Lock(ctx, path, what)
	if errors.Is(err, errHeld) {
		return nil, true, nil
	}
	return unlock, false, err
}

var errHeld = errors.New("it is held")

func open(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
