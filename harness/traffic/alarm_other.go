//go:build !linux

package traffic

import "time"

// alarm wakes one goroutine at instants, as Go's timers do.
type alarm struct{}

func newAlarm() *alarm { return &alarm{} }

func (*alarm) until(t time.Time) { time.Sleep(time.Until(t)) }

func (*alarm) close() {}
