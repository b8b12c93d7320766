//go:build !linux

package traffic

import "errors"

// RaisePriority is for Linux only.
func RaisePriority() error {
	return errors.New("raise the sender's priority: only done on Linux")
}
