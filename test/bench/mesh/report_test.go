package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/test/loopmesh/echo"
)

func TestAddedIsWhatAPathTakesLongerThanThePlainOne(t *testing.T) {
	got := addedOf([]figures{
		{Protocol: echo.GRPC, Rate: 200, Path: pathPlain, P50: 100, P99: 300, P999: 900},
		{Protocol: echo.GRPC, Rate: 200, Path: pathAgain, P50: 110, P99: 290, P999: 900},
		{Protocol: echo.GRPC, Rate: 200, Path: pathMesh, P50: 400, P99: 1300, P999: 5000},
	})
	require.Equal(t, []added{
		{echo.GRPC, 200, pathAgain, 10, -10, 0},
		{echo.GRPC, 200, pathMesh, 300, 1000, 4100},
	}, got)
}

func TestAGoalIsMetOnlyByWhatWasMeasured(t *testing.T) {
	for name, tc := range map[string]struct {
		r      report
		missed []string
	}{
		"all is well": {r: report{
			Added: []added{{echo.TCP, 200, pathMesh, 500, 3000, 9000}},
			Cells: []figures{{Protocol: echo.TCP, Rate: 2000, Path: pathMesh, Requests: 12000}},
			Crowd: crowdFigures{Endpoints: 50, Requests: 1, Front: residence{Bytes: 25 << 20}, Back: residence{Bytes: 20 << 20}},
		}},
		"other rates and other paths do not count": {r: report{
			Added: []added{{echo.TCP, 20, pathMesh, 900, 9000, 9000}, {echo.TCP, 200, pathNginx, 900, 9000, 9000}},
			Cells: []figures{{Protocol: echo.TCP, Rate: 2000, Path: pathNginx, Requests: 12000, Failed: 3}},
			Crowd: crowdFigures{Endpoints: 50, Requests: 1, Front: residence{Bytes: 1 << 20}, Back: residence{Bytes: 1 << 20}},
		}},
		"a little too slow, one error, a byte too much": {
			r: report{
				Added: []added{{echo.TCP, 200, pathMesh, 501, 3001, 9000}},
				Cells: []figures{{Protocol: echo.TCP, Rate: 2000, Path: pathMesh, Requests: 12000, Failed: 1}},
				Crowd: crowdFigures{Endpoints: 50, Requests: 1, Front: residence{Bytes: 25<<20 + 1}, Back: residence{Bytes: 25<<20 + 1}},
			},
			missed: []string{"added p50", "added p99", "without an error", "client's", "server's"},
		},
		"no request is no success, and no memory neither": {
			r:      report{Cells: []figures{{Protocol: echo.TCP, Rate: 2000, Path: pathMesh}}, Crowd: crowdFigures{Requests: 1}},
			missed: []string{"without an error", "client's", "server's"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.r.judge()
			var missed []string
			for _, g := range tc.r.Goals {
				if !g.Met {
					missed = append(missed, g.Goal)
				}
			}
			require.Len(t, missed, len(tc.missed))
			for i, want := range tc.missed {
				require.Contains(t, missed[i], want)
			}
		})
	}
}

const status = "Name:\tmesh\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nRssAnon:\t    8192 kB\nRssFile:\t    2048 kB\nThreads:\t7\n"

func TestMemoryIsReadFromTheProcess(t *testing.T) {
	m, err := parseStatus(status)
	require.NoError(t, err)
	require.Equal(t, memory{now: 10 << 20, file: 2 << 20, peak: 20 << 20}, m)
	for bad, why := range map[string]string{
		"":              "lacks RssFile, VmHWM, VmRSS",
		"VmRSS: 1 kB\n": "lacks RssFile, VmHWM",
		strings.Replace(status, "10240", "many", 1): "VmRSS",
	} {
		_, err := parseStatus(bad)
		require.ErrorContains(t, err, why)
	}
}

func FuzzStatus(f *testing.F) {
	f.Add(status)
	f.Add("VmRSS:\t-1 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseStatus(text)
		if err == nil {
			require.GreaterOrEqual(t, min(m.now, m.file, m.peak), int64(0))
		}
	})
}
