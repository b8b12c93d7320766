package footprint

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const smaps = `00400000-01019000 r-xp 00000000 fe:00 1178 /fakemesh
Size:              12388 kB
Rss:                4692 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
01019000-01d73000 r--p 00c19000 fe:00 1178 /fakemesh
Rss:                7440 kB
Anonymous:             8 kB
01d73000-01e02000 rw-p 01973000 fe:00 1178 /fakemesh
Anonymous:             0 kB
02000000-02001000 r--p 01000000 fe:00 1178 /fakemesh
Anonymous:             0 kB
03000000-03001000 r--s 01000000 fe:00 1178 /fakemesh
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          1024 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 2000 /lib/libc.so.6
Anonymous:             0 kB
`

func TestOnlyWhatIsAsInTheFileIsGivenBack(t *testing.T) {
	require.Equal(t, []span{{0x400000, 0x1019000}, {0x2000000, 0x2001000}}, clean(smaps, "/fakemesh"))
	require.Empty(t, clean(smaps, "/other"))
	require.Empty(t, clean("", "/fakemesh"))
}

func TestAProgramGoesOnWithoutItsPagesAndHoldsFewerOfThem(t *testing.T) {
	spans, _ := ownPages(t)
	require.NotEmpty(t, spans)
	for range 2 { // at the start, and once more
		for _, s := range spans {
			_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(s.from), uintptr(s.to-s.from), unix.MADV_POPULATE_READ)
			require.Zero(t, errno)
		}
		_, before := ownPages(t)
		require.NoError(t, Shrink())
		_, after := ownPages(t)
		require.Less(t, after, before*3/4)
	}
}

// ownPages are the pieces of the test's own program that can be given back, and
// how much of them is resident, in KiB.
func ownPages(t *testing.T) (spans []span, resident int) {
	t.Helper()
	program, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	text, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	spans = clean(string(text), program)
	counts := false
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if !strings.HasSuffix(words[0], ":") {
			s, _ := parseMapping(words, program)
			counts = slices.Contains(spans, s)
		}
		if counts && words[0] == "Rss:" {
			n, err := strconv.Atoi(words[1])
			require.NoError(t, err)
			resident += n
		}
	}
	return spans, resident
}

func FuzzSmaps(f *testing.F) {
	f.Add(smaps, "/fakemesh")
	f.Add("1-0 r--p 0 0 0 x\nAnonymous: 0 kB\n", "x")
	f.Fuzz(func(t *testing.T, text, file string) {
		for _, s := range clean(text, file) {
			require.Less(t, s.from, s.to)
		}
	})
}
