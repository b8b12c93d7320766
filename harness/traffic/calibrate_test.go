package traffic

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

func TestTheSenderKnowsItsOwnShare(t *testing.T) {
	for _, connections := range []string{scenarios.KeepAlive, scenarios.NewConnections, scenarios.HTTP2} {
		t.Run(connections, func(t *testing.T) {
			c, err := Calibrate(t.Context(), scenarios.Traffic{Sender: scenarios.Sender{Connections: connections}})
			require.NoError(t, err)
			require.InDelta(t, calibrationRate*calibrationLasts.Seconds(), c.Requests, 150)
			require.Positive(t, c.P50)
			require.LessOrEqual(t, c.P50, c.P99)
			require.LessOrEqual(t, c.P99, c.Max)
			require.Equal(t, float64(calibrationRate), c.Trials[0].Rate)
			require.Equal(t, float64(lowestTrial), c.Trials[1].Rate)
			highest := 0.0
			for _, one := range c.Trials {
				require.LessOrEqual(t, one.LagP50, one.LagP99)
				require.LessOrEqual(t, one.LagP99, one.LagMax)
				if one.Held {
					highest = max(highest, one.Rate)
				}
			}
			require.Equal(t, highest, c.Held)
			t.Logf("%+v", c)
		})
	}
}

func TestACalibrationCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Calibrate(ctx, scenarios.DefaultTraffic())
	require.ErrorIs(t, err, context.Canceled)
}

func TestTrafficBeyondTheMachineIsRefusedAndNearItWarnedOf(t *testing.T) {
	c := results.Calibration{Held: 1000}
	for name, one := range map[string]struct {
		wanted        float64
		warns, refuse bool
	}{
		"easy":             {500, false, false},
		"more than half":   {501, true, false},
		"all":              {1000, true, false},
		"more than it can": {1001, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			warning, err := CheckFit(c, one.wanted)
			require.Equal(t, one.warns, warning != "")
			require.Equal(t, one.refuse, err != nil)
			if err != nil {
				require.Equal(t, fault.Environment, fault.KindOf(err))
				require.EqualError(t, err, "the traffic reaches 1001 requests a second, and this machine sends at most 1000 on time\n"+
					"  mend: lower traffic.shape or the phases' scale, raise compressTo by 1.0 or more, or let agents on the cluster send")
			}
		})
	}
	_, err := CheckFit(results.Calibration{}, 1)
	require.Error(t, err, "a machine that held nothing")
}

func TestARateThatNobodyAnswersIsNotHeld(t *testing.T) {
	got, err := try(t.Context(), "127.0.0.1:1", scenarios.Sender{Connections: scenarios.KeepAlive}, 200, 0, 200*time.Millisecond)
	require.NoError(t, err)
	require.False(t, got.Held)
	require.Positive(t, got.Requests)
	require.Equal(t, got.Requests, got.Failed+got.NotSent)
	require.Zero(t, got.latency.TotalCount())
}
