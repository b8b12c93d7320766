package footprint

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Shrink lets the kernel forget which unchanged pages of its own file the program
// has touched. What it does need is mapped anew from the page cache.
func Shrink() error {
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
