package steps

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/progress"
)

// meteredCalls answer as Prometheus does when calls without mTLS come until an instant.
type meteredCalls struct {
	tls       int
	plainTill time.Time
	window    time.Duration
	asked     int
}

func (c *meteredCalls) ServiceGet(_ context.Context, _, _, _ string, query url.Values) ([]byte, error) {
	c.asked++
	plain := 0
	if time.Since(c.plainTill) < c.window {
		plain = 3
	}
	const sample = `{"metric":{"deployment":"a","tls":%q,"no_tls_reason":%q},"value":[1,"%d"]}`
	return fmt.Appendf(nil, `{"status":"success","data":{"resultType":"vector","result":[`+sample+","+sample+"]}}",
		"true", "", c.tls, "false", "no_tls_from_remote", plain), nil
}

func TestAFullCycleIsAwaitedFromTheLastRollOn(t *testing.T) {
	const cycle = 200 * time.Second
	for name, c := range map[string]struct {
		rolled, plain time.Duration // before the step
		tls           int
		waits         time.Duration
		fails         string
	}{
		"rolled just now":                              {rolled: 0, plain: 10 * time.Second, tls: 9, waits: cycle},
		"rolled a while ago":                           {rolled: 80 * time.Second, plain: 80 * time.Second, tls: 9, waits: 120 * time.Second},
		"rolled long ago":                              {rolled: time.Hour, plain: time.Hour, tls: 9, waits: 0},
		"a plain call came after the roll":             {rolled: 80 * time.Second, plain: 65 * time.Second, tls: 9, waits: 140 * time.Second},
		"a plain call will still come in half a cycle": {rolled: 80 * time.Second, plain: -100 * time.Second, tls: 9, waits: 300 * time.Second},
		"plain calls do not end":                       {rolled: 0, plain: -time.Hour, tls: 9, waits: patience * cycle, fails: "after 4 cycles of 3m20s calls still come without mTLS: 9 calls with mTLS, 3 without (map[no_tls_from_remote:3])"},
		"nobody calls":                                 {rolled: 0, plain: time.Hour, waits: patience * cycle, fails: "after 4 cycles of 3m20s calls still come without mTLS: 0 calls with mTLS, 0 without (map[])"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				prom := &meteredCalls{tls: c.tls, plainTill: begun.Add(-c.plain), window: cycle}
				step := &awaitAuthenticated{cycle: cycle, prom: prom, env: &Env{Rollout: &Rollout{rolled: begun.Add(-c.rolled)}, Progress: progress.Discard()}}
				err := step.Execute(t.Context())
				if c.fails == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, c.fails)
				}
				require.Equal(t, c.waits, time.Since(begun))
				require.LessOrEqual(t, prom.asked, patience*looks+1)
			})
		})
	}
}

func TestAwaitingACycleEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	step := &awaitAuthenticated{cycle: time.Hour, prom: &meteredCalls{}, env: &Env{Rollout: &Rollout{rolled: time.Now()}, Progress: progress.Discard()}}
	require.ErrorIs(t, step.Execute(ctx), context.Canceled)
}
