package behaviour

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

func TestABehaviourIsReadStrictly(t *testing.T) {
	c, err := Parse(`{"latency":{"kind":"lognormal","p50":"5ms","p99":"80ms","share":0.5},"errors":{"rate":0.1,"code":"INTERNAL"},"ballastMiB":1,
		"leakBytes":10,"startDelay":"3s","warmup":"10s","cold":{"kind":"constant","p50":"1s"},"burn":"20ms","seed":7}`)
	require.NoError(t, err)
	require.Equal(t, Config{
		Latency: Latency{Kind: Lognormal, P50: Duration(5 * time.Millisecond), P99: Duration(80 * time.Millisecond), Share: 0.5},
		Errors:  Errors{Rate: 0.1, Code: "INTERNAL"}, BallastMiB: 1, LeakBytes: 10, StartDelay: Duration(3 * time.Second),
		Warmup: Duration(10 * time.Second), Cold: Latency{Kind: Constant, P50: Duration(time.Second)}, Burn: Duration(20 * time.Millisecond), Seed: 7,
	}, c)
	again, err := json.Marshal(c)
	require.NoError(t, err)
	same, err := Parse(string(again))
	require.NoError(t, err)
	require.Equal(t, c, same)
	c, err = Parse("")
	require.NoError(t, err)
	require.Zero(t, c)
}

func TestAWrongBehaviourIsRefused(t *testing.T) {
	cases := []struct{ name, text, says string }{
		{"no JSON", `slow`, "behaviour: invalid character"},
		{"an unknown key", `{"latencies":{}}`, `unknown field "latencies"`},
		{"two values", `{}{}`, "more than one JSON value"},
		{"a number for a duration", `{"startDelay":5}`, `5 is no duration such as "5ms"`},
		{"a rate over one", `{"errors":{"rate":1.5}}`, "behaviour: errors.rate 1.5: wants 0 to 1"},
		{"a code that is no failure", `{"errors":{"rate":1,"code":"NOT_FOUND"}}`, `errors.code "NOT_FOUND": wants a failure's`},
		{"a code that there is not", `{"errors":{"rate":1,"code":"BROKEN"}}`, `errors.code "BROKEN"`},
		{"less than no memory", `{"ballastMiB":-1}`, "ballastMiB -1"},
		{"a leak that gives back", `{"leakBytes":-1}`, "leakBytes -1"},
		{"a start before now", `{"startDelay":"-5s"}`, "startDelay and warmup"},
		{"an unknown distribution", `{"latency":{"kind":"normal","p50":"5ms"}}`, `latency: kind "normal"`},
		{"a distribution without a kind", `{"latency":{"p50":"5ms"}}`, "latency: kind is missing"},
		{"no middle", `{"latency":{"kind":"constant"}}`, "latency: p50 and most want"},
		{"a tail below the middle", `{"latency":{"kind":"lognormal","p50":"5ms","p99":"1ms"}}`, "latency: lognormal wants p99"},
		{"a tail where there is none", `{"latency":{"kind":"uniform","p50":"5ms","p99":"9ms"}}`, "latency: uniform has no p99"},
		{"a share over one", `{"latency":{"kind":"uniform","p50":"5ms","share":2}}`, "latency: share 2"},
		{"cold without an end", `{"cold":{"kind":"constant","p50":"1s"}}`, "cold: has no effect without warmup"},
		{"more than a call lasts", `{"burn":"11s"}`, "behaviour: burn: wants a duration of at most 10s"},
		{"all of it", `{"ballastMiB":-1,"leakBytes":-1}`, "behaviour: ballastMiB -1: wants 0 to 1048576\nbehaviour: leakBytes -1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.text)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"latency":{"kind":"lognormal","p50":"5ms","p99":"80ms"},"errors":{"rate":0.1,"code":"INTERNAL"},"warmup":"1s"}`)
	f.Add(`{"latency":{"kind":"exponential","p50":"9999h"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		for range 100 {
			d := c.Latency.Draw(rand.New(rand.NewPCG(1, 2)))
			if most := max(mostOf, time.Duration(c.Latency.Most)); d < 0 || d > most {
				t.Fatalf("a delay of %s", d)
			}
		}
	})
}

func TestDelaysAreDistributedAsTheySay(t *testing.T) {
	const draws = 100_000
	ms := func(n float64) Duration { return Duration(n * float64(time.Millisecond)) }
	cases := []struct {
		name          string
		l             Latency
		p50, p99, max float64 // ms
	}{
		{"constant", Latency{Kind: Constant, P50: ms(5)}, 5, 5, 5},
		{"uniform", Latency{Kind: Uniform, P50: ms(5)}, 5, 9.9, 10},
		{"exponential", Latency{Kind: Exponential, P50: ms(5)}, 5, 5 * math.Log2(100), math.Inf(1)},
		{"lognormal", Latency{Kind: Lognormal, P50: ms(5), P99: ms(80)}, 5, 80, math.Inf(1)},
		{"lognormal, cut", Latency{Kind: Lognormal, P50: ms(5), P99: ms(80), Most: ms(20)}, 5, 20, 20},
		{"none", Latency{}, 0, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			got := make([]float64, draws)
			for i := range got {
				got[i] = c.l.Draw(rng).Seconds() * 1000
			}
			slices.Sort(got)
			require.InEpsilon(t, 1+c.p50, 1+got[draws/2], 0.02)
			require.InEpsilon(t, 1+c.p99, 1+got[draws*99/100], 0.05)
			require.LessOrEqual(t, got[draws-1], c.max)
			require.GreaterOrEqual(t, got[0], 0.0)
		})
	}
	rng, hit := rand.New(rand.NewPCG(3, 4)), 0
	for range draws {
		if (Latency{Kind: Constant, P50: ms(5), Share: 0.1}).Draw(rng) > 0 {
			hit++
		}
	}
	require.InDelta(t, draws/10, hit, 500)
}

func TestAServiceBehavesAsItIsTold(t *testing.T) {
	var good *Behaviour
	require.NoError(t, good.Request(t.Context()))
	require.NoError(t, New(Config{}, "pod").Request(t.Context()))

	failing := New(Config{Errors: Errors{Rate: 0.25, Code: "INTERNAL"}}, "pod")
	failed := 0
	for range 10_000 {
		if err := failing.Request(t.Context()); err != nil {
			require.Equal(t, codes.Internal, fail.From(err).Code)
			failed++
		}
	}
	require.InDelta(t, 2500, failed, 200)

	leaking := New(Config{LeakBytes: 1000, BallastMiB: 2}, "pod")
	for range 50 {
		require.NoError(t, leaking.Request(t.Context()))
	}
	require.Equal(t, int64(2<<20+50_000), leaking.Held())
}

func TestARequestBurnsAsMuchCPUAsItIsToldAndNoLongerThanItIsWantedFor(t *testing.T) {
	// On a thread of its own, so that the time counted is this request's.
	used := make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		before := threadTime()
		if err := New(Config{Burn: Duration(20 * time.Millisecond)}, "pod").Request(t.Context()); err != nil {
			t.Error(err)
		}
		used <- threadTime() - before
	}()
	require.GreaterOrEqual(t, <-used, 20*time.Millisecond)

	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, New(Config{Burn: Duration(5 * time.Second)}, "pod").Request(over), context.Canceled)
	require.NoError(t, burn(over, 0), "nothing to burn is nothing to wait for")
}

func TestTheSamePodBehavesTheSame(t *testing.T) {
	fates := func(pod string) (out []bool) {
		b := New(Config{Errors: Errors{Rate: 0.5}, Seed: 3}, pod)
		for range 100 {
			out = append(out, b.Request(t.Context()) != nil)
		}
		return out
	}
	require.Equal(t, fates("a"), fates("a"))
	require.NotEqual(t, fates("a"), fates("b"))
}

func TestDelaysAreWaitedForNoLongerThanTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Latency: Latency{Kind: Constant, P50: Duration(time.Second)}, StartDelay: Duration(20 * time.Second)}, "pod")
		began := time.Now()
		require.NoError(t, b.Start(t.Context()))
		require.Equal(t, 20*time.Second, time.Since(began))
		began = time.Now()
		require.NoError(t, b.Request(t.Context()))
		require.Equal(t, time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began = time.Now()
		require.ErrorIs(t, b.Request(ctx), context.DeadlineExceeded)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
	})
}

func TestAColdServiceWarmsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Warmup: Duration(10 * time.Second), Cold: Latency{Kind: Constant, P50: Duration(time.Second)}}, "pod")
		var took []time.Duration
		for range 4 {
			began := time.Now()
			require.NoError(t, b.Request(t.Context()))
			took = append(took, time.Since(began).Round(time.Microsecond))
			time.Sleep(4*time.Second - took[len(took)-1])
		}
		require.Equal(t, []time.Duration{time.Second, 600 * time.Millisecond, 200 * time.Millisecond, 0}, took)
	})
}
