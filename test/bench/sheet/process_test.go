package sheet

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const status = "Name:\tmesh\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nRssAnon:\t    8192 kB\nRssFile:\t    2048 kB\nThreads:\t7\n"

func TestMemoryIsReadFromTheProcess(t *testing.T) {
	m, err := parseStatus(status)
	require.NoError(t, err)
	require.Equal(t, Memory{Now: 10 << 20, File: 2 << 20, Peak: 20 << 20}, m)
	for bad, why := range map[string]string{
		"":              "lacks RssFile, VmHWM, VmRSS",
		"VmRSS: 1 kB\n": "lacks RssFile, VmHWM",
		strings.Replace(status, "10240", "many", 1): "VmRSS",
	} {
		_, err := parseStatus(bad)
		require.ErrorContains(t, err, why)
	}
}

func TestAProfileMakesItsFolder(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "new", "front")
	stop, err := Profile(prefix)
	require.NoError(t, err)
	require.NoError(t, stop())
	require.FileExists(t, prefix+".cpu.pprof")
	require.FileExists(t, prefix+".allocs.pprof")
}

func FuzzStatus(f *testing.F) {
	f.Add(status)
	f.Add("VmRSS:\t-1 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseStatus(text)
		if err == nil {
			require.GreaterOrEqual(t, min(m.Now, m.File, m.Peak), int64(0))
		}
	})
}
