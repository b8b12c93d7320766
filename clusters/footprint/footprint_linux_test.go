package footprint

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestAProgramGoesOnWithoutItsPages(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	before, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	require.NotEmpty(t, clean(string(before), program))
	require.NoError(t, Shrink())
	require.Equal(t, "the program still runs", strings.Join([]string{"the", "program", "still", "runs"}, " "))
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
