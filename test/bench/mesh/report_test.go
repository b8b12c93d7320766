package main

import (
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
