package alb

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// traceFor is the X-Amzn-Trace-Id that goes to the target: a Root where the
// client gave none, and else what it gave with a Self of this load balancer.
func traceFor(given string, now time.Time) string {
	if given == "" {
		return "Root=" + newTraceID(now)
	}
	var fields []string
	rooted := false
	for field := range strings.SplitSeq(given, ";") {
		name, _, _ := strings.Cut(strings.TrimSpace(field), "=")
		rooted = rooted || name == "Root"
		if name != "Self" {
			fields = append(fields, field)
		}
	}
	mine := "Root="
	if rooted {
		mine = "Self="
	}
	return mine + newTraceID(now) + ";" + strings.Join(fields, ";")
}

// newTraceID is AWS's form: a version, the time, 96 random bits.
func newTraceID(now time.Time) string {
	var b [12]byte
	rand.Read(b[:])
	return fmt.Sprintf("1-%08x-%s", uint32(now.Unix()), hex.EncodeToString(b[:]))
}
