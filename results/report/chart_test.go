package report

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// drawn makes a chart of buckets of a second.
func drawn(buckets []results.Bucket, change func(*Data)) *chart {
	d := Data{Verdict: results.Verdict{Timeline: results.Timeline{BucketMs: 1000, Buckets: buckets}}}
	if change != nil {
		change(&d)
	}
	return newChart(d)
}

func busy(n int) []results.Bucket {
	all := make([]results.Bucket, n)
	for i := range all {
		all[i] = results.Bucket{Requests: 100, P50Ms: 5, P99Ms: 50}
	}
	return all
}

func TestNothingIsDrawnOfNothing(t *testing.T) {
	require.Nil(t, newChart(Data{}))
	require.Nil(t, drawn(nil, nil))
	require.NotNil(t, drawn(make([]results.Bucket, 5), nil), "time passed without requests")
}

func TestOneFailureAmongManyRequestsIsSeen(t *testing.T) {
	buckets := busy(10)
	buckets[4].Requests, buckets[4].Failed = 100_000, 1
	c := drawn(buckets, nil)
	require.True(t, c.Failed)
	require.Equal(t, "3", c.Bars[4].FailTall)
	require.True(t, c.Bars[4].HasFailed)
	require.False(t, c.Bars[3].HasFailed)
	buckets[4] = results.Bucket{Requests: 1, Failed: 1, P50Ms: 1, P99Ms: 1}
	c = drawn(buckets, nil)
	require.Equal(t, "3", c.Bars[4].FailTall)
	require.False(t, c.Bars[4].HasGood)
}

func TestALineIsBrokenWhereThereWereNoRequests(t *testing.T) {
	buckets := busy(5)
	buckets[2] = results.Bucket{}
	c := drawn(buckets, nil)
	require.Len(t, c.P50, 2)
	require.Len(t, c.Bars, 4)
	buckets[3] = results.Bucket{}
	c = drawn(buckets, nil)
	require.Contains(t, c.P50[1], "h2", "a single point is a short line")
}

func TestTheBudgetIsDrawnWhereThereIsOne(t *testing.T) {
	with := func(text string) *chart {
		return drawn(busy(5), func(d *Data) { d.Verdict.Budgets = []results.BudgetVerdict{{Text: text}} })
	}
	require.Equal(t, "budget 100 ms", with("end-to-end p99 < 100ms in soak").Limit.Label)
	require.Nil(t, with("end-to-end p50 < 100ms").Limit)
	require.Nil(t, with("nonsense").Limit)
}

func TestPhasesAreShadedAlsoWhenTheLastNeverEnded(t *testing.T) {
	c := drawn(busy(100), func(d *Data) {
		d.Verdict.Phases = []results.PhaseFigures{
			{Name: "a", BeginMs: 0, EndMs: 50_000}, {Name: "never-begun"}, {Name: "b", BeginMs: 50_000}, {Name: "wrong", BeginMs: 9000, EndMs: 8000},
		}
	})
	require.Len(t, c.Phases, 2)
	require.Equal(t, "530", c.Phases[1].X)
	require.Equal(t, "454", c.Phases[1].Width)
	require.Equal(t, "phase b, 0:50 to 1:40", c.Phases[1].TitleText)
}

func TestStepsKeepOutOfEachOthersWay(t *testing.T) {
	c := drawn(busy(100), func(d *Data) {
		event := func(kind, name string, at time.Duration, fields map[string]string) {
			d.Events = append(d.Events, results.Event{At: int64(at), Kind: kind, Name: name, Fields: fields})
		}
		event(results.StepBegin, "install", 10*time.Second, nil)
		event(results.StepEnd, "install", 12*time.Second, nil)
		event(results.StepBegin, "inject", 13*time.Second, nil)
		event(results.StepEnd, "inject", 20*time.Second, map[string]string{results.FieldError: "no pods"})
		event(results.StepBegin, "enforce", 60*time.Second, nil)
		event(results.StepEnd, "enforce", 62*time.Second, nil)
		event(results.StepBegin, "measure", 97*time.Second, nil) // never ends
	})
	require.Len(t, c.Steps, 4)
	require.Equal(t, "370", c.Steps[0].Y)
	require.Equal(t, "392", c.Steps[1].Y, "its words would overlap")
	require.Equal(t, "370", c.Steps[2].Y)
	require.True(t, c.Steps[1].Failed)
	require.Equal(t, "inject, 0:13 to 0:20: no pods", c.Steps[1].TitleText)
	require.Equal(t, "end", c.Steps[3].Anchor, "there is no room behind it")
	require.True(t, c.Steps[3].Failed, "it never ended")
	require.Equal(t, c.StepsTop+2*stepHeight+8, c.Height)
}

func TestADamagedTimelineIsStillDrawn(t *testing.T) {
	c := drawn(busy(240), func(d *Data) {
		d.Verdict.Timeline.BucketMs = 1 << 50
		d.Verdict.Phases = []results.PhaseFigures{{Name: "a", BeginMs: -5, EndMs: 1 << 60}}
		d.Events = []results.Event{{At: -1 << 62, Kind: results.StepBegin, Name: "x"}, {At: 1 << 62, Kind: results.StepEnd, Name: "y"}}
	})
	require.LessOrEqual(t, len(c.TimeTicks), 30)
}

func TestTheLatencyScaleHasFewTicks(t *testing.T) {
	require.Equal(t, []float64{1, 2, 5, 10, 20, 50}, decades(0, 1.9))
	require.Equal(t, []float64{1, 10, 100, 1000}, decades(0, 3))
}
