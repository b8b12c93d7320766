package process

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

func TestStackIsInUseWhileSomethingIsDoneBelow(t *testing.T) {
	inUse := func() (bytes uint64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	before := inUse()
	done := make(chan uint64)
	go below(depth, func() { done <- inUse() })
	require.Greater(t, <-done, before+depth<<10)
}

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
		require.NoError(t, giveBack())
		_, after := ownPages(t)
		require.Less(t, after, before*3/4)
	}
}

func TestPagesAreGivenBackAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin, ended := time.Now(), make(chan error, 1)
		var at []time.Duration
		go func() {
			ended <- repeat(ctx, func() error {
				at = append(at, time.Since(begin))
				return nil
			})
		}()
		time.Sleep(time.Hour)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond}, at[:3])
		n := len(at)
		require.Equal(t, maxPause, at[n-1]-at[n-2])
	})
}

func TestPagesThatCannotBeGivenBackAreTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, calls := errors.New("no smaps"), 0
		require.ErrorIs(t, repeat(t.Context(), func() error {
			calls++
			return broken
		}), broken)
		require.Equal(t, 1, calls)
	})
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
