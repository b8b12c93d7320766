// Package process fits a whole process to its one purpose, to be a proxy.
package process

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// collectAt is how much garbage there may be, in percent of what is in use. A
// proxy keeps little and drops much: at Go's 100 it would be half as large again.
const collectAt = 50

// GoDebug is for the environment variable GODEBUG that a proxy is started with:
// goroutines begin with as much stack as those of now need on average. net/http
// starts about eight for a request, most of which would have to grow. See
// StaySmall for how the average comes to be more than the least.
const GoDebug = "adaptivestackstart=1"

// Fit gives the Go runtime that many cores at a time (0: all), has it collect
// garbage early, unless the environment says when, and gives back the pages of
// the program that it was loaded with.
func Fit(cores int) error {
	if cores > 0 {
		runtime.GOMAXPROCS(cores)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	return giveBack()
}

// Pauses after which pages are given back once more.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Minute
)

// StaySmall gives the program's pages back again and again, with pauses that
// grow, until ctx ends. What the program has touched only to start, and then to
// open its connections, stays away; what its work goes on needing comes back from
// the page cache.
//
// It waits deep in its stack. Goroutines that wait for a request need little of
// theirs, and would have those that serve one begin with as little.
func StaySmall(ctx context.Context) error {
	var err error
	below(depth, func() { err = repeat(ctx, giveBack) })
	return err
}

// depth in KiB brings the average of 150 goroutines from some 700 bytes to over
// 1,120, from where on they begin with 4 KiB instead of 2.
const depth = 64

// below calls do that many KiB deeper in the stack.
//
//go:noinline
func below(kib int, do func()) byte {
	var room [1 << 10]byte
	if kib == 0 {
		do()
		return room[0]
	}
	return below(kib-1, do) + room[kib%len(room)]
}

func repeat(ctx context.Context, do func() error) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if err := do(); err != nil {
			return err
		}
	}
}

// giveBack gives back those pages of the program that it has needed so far.
func giveBack() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's own pages: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program's own pages: %w", err)
	}
	return drop(clean(string(smaps), program))
}

// span is a piece of the address space.
type span struct{ from, to uint64 }

// drop lets the kernel forget that spans of the program's file were touched.
// The start of a program runs through all of its packages, and the control
// plane's are in the same file: most of what that made resident, a proxy never
// needs again.
func drop(spans []span) error {
	for _, s := range spans {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(s.from), uintptr(s.to-s.from), unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the program's pages at %x: %w", s.from, errno)
		}
	}
	return nil
}

// clean finds in /proc/self/smaps what is mapped of a file, not writable, and
// as it is in the file: a page that was changed would be lost.
func clean(smaps, file string) []span {
	var spans []span
	var last span // of the mapping that the lines are about, while it may count
	var counts bool
	for line := range strings.Lines(smaps) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if !strings.HasSuffix(words[0], ":") {
			last, counts = parseMapping(words, file)
			continue
		}
		if counts && words[0] == "Anonymous:" && len(words) > 1 && words[1] == "0" {
			spans = append(spans, last)
		}
	}
	return spans
}

// parseMapping reads "00400000-0100f000 r-xp 00000000 fe:00 1234 /fakemesh".
func parseMapping(words []string, file string) (s span, counts bool) {
	if len(words) != 6 || words[5] != file || len(words[1]) != 4 || words[1][1] != '-' || words[1][3] != 'p' {
		return span{}, false
	}
	from, to, _ := strings.Cut(words[0], "-")
	var errFrom, errTo error
	s.from, errFrom = strconv.ParseUint(from, 16, 64)
	s.to, errTo = strconv.ParseUint(to, 16, 64)
	return s, errFrom == nil && errTo == nil && s.from < s.to
}
