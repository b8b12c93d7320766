package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// hostStory is a minute's traffic, ten requests a second, on a host whose CPUs are
// as busy in each second as busy says; in seconds that slow names one request takes
// 300 ms.
func hostStory(busy func(second int) float64, slow func(second int) bool) *story {
	s := slowStory(600)
	load := results.HostLoad{Lasted: time.Minute, Busy: 0.8}
	for i := range 60 {
		load.Seconds = append(load.Seconds, results.HostSecond{
			From: int64(i) * int64(time.Second), To: int64(i+1) * int64(time.Second), Busy: busy(i), Waiting: ptr(0.9),
		})
		if slow(i) {
			r := &s.requests[10*i+3]
			r.Done = r.Sent + int64(300*time.Millisecond)
		}
	}
	return s.probe(results.ProbeHostLoad, load)
}

func TestAHostWithoutCPUToSpareIsToBlameWhereSlowRequestsComeWithIt(t *testing.T) {
	always := func(int) bool { return true }
	everyThird := func(i int) bool { return i%3 == 0 }
	some := func(i int) float64 {
		if everyThird(i) {
			return 0.99
		}
		return 0.6
	}
	for name, c := range map[string]struct {
		busy func(int) float64
		slow func(int) bool
		host int64
	}{
		"slow when it is busy":                          {some, everyThird, 20},
		"slow when it is busy, and once else":           {some, func(i int) bool { return everyThird(i) || i == 20 }, 20},
		"slow at any time":                              {some, always, 0},
		"slow when it is idle":                          {some, func(i int) bool { return i%3 == 1 }, 0},
		"slow in two of twenty busy seconds: by chance": {some, func(i int) bool { return i == 30 || i == 33 }, 0},
		"busy all the time: nothing to compare with":    {func(int) float64 { return 1 }, everyThird, 0},
		"busy, but not without any to spare":            {func(i int) float64 { return min(some(i), 0.94) }, everyThird, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var blamed, others int64
			for _, cause := range hostStory(c.busy, c.slow).judge(t).SlowCauses {
				switch cause.Kind {
				case causeHost:
					blamed += cause.Count
					require.Equal(t, "the machine that the rehearsal ran on had no CPU to spare", cause.Cause)
					require.Contains(t, cause.Mend, "compressTo")
				default:
					require.Equal(t, causeUnknown, cause.Kind)
					others += cause.Count
				}
			}
			require.Equal(t, c.host, blamed)
			var slow int64
			for i := range 60 {
				if c.slow(i) {
					slow++
				}
			}
			require.Equal(t, slow-c.host, others)
		})
	}
}

func TestABusyHostIsBlamedWithItsFigures(t *testing.T) {
	busy := func(i int) float64 {
		if i < 20 {
			return 0.987
		}
		return 0.5
	}
	causes := hostStory(busy, func(i int) bool { return i < 20 }).judge(t).SlowCauses
	require.Len(t, causes, 1)
	require.Contains(t, causes[0].Evidence, "soak: 20 of 20 seconds whose CPUs were at least 95 % busy saw a slow request, and 0 of 40 others")
	require.Contains(t, causes[0].Evidence, "the CPUs were 98 % busy from 0.0 s to 1.0 s, some program waited for one in 90 % of that time")
}

func TestARequestThatWentOnWhenTheHostHadRoomAgainIsNotTheHosts(t *testing.T) {
	busy := func(i int) float64 {
		if i < 20 {
			return 1
		}
		return 0.5
	}
	s := hostStory(busy, func(i int) bool { return i < 20 })
	r := &s.requests[195] // begun in the last busy second
	r.Done = r.Sent + int64(2*time.Second)
	causes := s.judge(t).SlowCauses
	require.Len(t, causes, 2)
	require.Equal(t, causeHost, causes[0].Kind)
	require.Equal(t, int64(20), causes[0].Count)
	require.Equal(t, causeUnknown, causes[1].Kind)
	require.Equal(t, r.Seq, causes[1].Requests[0].Seq)
}

func TestSecondsThatCannotBeReadBlameNobody(t *testing.T) {
	s := hostStory(func(int) float64 { return 1 }, func(int) bool { return true })
	s.probes[0].Data = []byte(`{"seconds": 7}`)
	causes := s.judge(t).SlowCauses
	require.Len(t, causes, 1)
	require.Equal(t, causeUnknown, causes[0].Kind)
}
