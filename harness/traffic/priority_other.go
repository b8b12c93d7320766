//go:build !linux

package traffic

import "errors"

// RaisePriority is for Linux only.
func RaisePriority() (lower func(), err error) {
	return func() {}, errors.New("raise the sender's priority: only done on Linux")
}
