package verdict

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// The share of wrong verdicts, measured: runs are drawn from distributions whose
// truth is known, and judged. `make simulate` draws thousands.
var (
	simulations = flag.Int("simulations", 60, "runs that are drawn of each kind")
	drawnFrom   = flag.Uint64("simulation-seed", 20240501, "what they are drawn from")
)

// simulated is how many runs are drawn of each kind: a third under the race detector.
func simulated() int {
	if raced {
		return max(*simulations/3, 20)
	}
	return *simulations
}

// stated is the share of wrong verdicts that the method allows.
const stated = 1 - confidence

// world is where latencies come from: n of them in order of time, in
// milliseconds, each list of the same surroundings, and their true quantile.
type world struct {
	name     string
	draw     func(n, lists int, draw *rand.Rand) [][]float64
	quantile func(q float64) float64
}

// normal is the quantile of the normal distribution.
func normal(q float64) float64 { return math.Sqrt2 * math.Erfinv(2*q-1) }

// each draws every latency by itself.
func each(one func(*rand.Rand) float64) func(int, int, *rand.Rand) [][]float64 {
	return func(n, lists int, draw *rand.Rand) [][]float64 {
		all := make([][]float64, lists)
		for l := range all {
			all[l] = make([]float64, n)
			for i := range all[l] {
				all[l][i] = one(draw)
			}
		}
		return all
	}
}

// shared draws log-normal latencies whose surroundings change slowly: neighbours
// have the correlation rho, and what is common to the lists a half of the
// variance.
func shared(rho float64) world {
	const sigma = 0.6
	return world{
		name: fmt.Sprintf("log-normal, neighbours alike (ρ %.3g)", rho),
		draw: func(n, lists int, draw *rand.Rand) [][]float64 {
			all := make([][]float64, lists)
			for l := range all {
				all[l] = make([]float64, n)
			}
			common := draw.NormFloat64()
			for i := range n {
				common = rho*common + math.Sqrt(1-rho*rho)*draw.NormFloat64()
				for l := range all {
					all[l][i] = 3 * math.Exp(sigma*math.Sqrt(0.5)*(common+draw.NormFloat64()))
				}
			}
			return all
		},
		quantile: func(q float64) float64 { return 3 * math.Exp(sigma*normal(q)) },
	}
}

// drifting grows by a half from the first to the last.
func drifting() world {
	const sigma = 0.5
	level := func(part float64) float64 { return 3 * (1 + 0.5*part) }
	return world{
		name: "log-normal, drifting by a half",
		draw: func(n, lists int, draw *rand.Rand) [][]float64 {
			all := make([][]float64, lists)
			for l := range all {
				for i := range n {
					all[l] = append(all[l], level(float64(i)/float64(n))*math.Exp(sigma*draw.NormFloat64()))
				}
			}
			return all
		},
		quantile: func(q float64) float64 {
			lo, hi := 0.0, 1000.0
			for range 80 {
				mid, below := (lo+hi)/2, 0.0
				for i := range 1000 {
					below += 0.5 * math.Erfc(-math.Log(mid/level((float64(i)+0.5)/1000))/sigma/math.Sqrt2) / 1000
				}
				if below < q {
					lo = mid
				} else {
					hi = mid
				}
			}
			return hi
		},
	}
}

// stalls are times of five requests in the mean in which all of them wait.
func stalls() world {
	const rare, together, stall = 0.03, 5.0, 25.0
	return world{
		name: "stalls of five requests, 3 of 100 waiting",
		draw: func(n, lists int, draw *rand.Rand) [][]float64 {
			all := make([][]float64, lists)
			for l := range all {
				all[l] = make([]float64, n)
			}
			waiting := draw.Float64() < rare
			for i := range n {
				if waiting {
					waiting = draw.Float64() >= 1/together
				} else {
					waiting = draw.Float64() < rare/(1-rare)/together
				}
				for l := range all {
					if all[l][i] = 3 + draw.Float64(); waiting {
						all[l][i] = stall + 5*draw.ExpFloat64()
					}
				}
			}
			return all
		},
		quantile: func(q float64) float64 {
			if q > 1-rare {
				return stall - 5*math.Log((1-q)/rare)
			}
			return 3 + q/(1-rare)
		},
	}
}

func worlds() []world {
	const alpha, rare, pause = 2.2, 0.03, 25.0
	return []world{
		{"exponential", each(func(d *rand.Rand) float64 { return 1 + 2*d.ExpFloat64() }), func(q float64) float64 { return 1 - 2*math.Log(1-q) }},
		{"heavy tail (Pareto, α 2.2)", each(func(d *rand.Rand) float64 { return 2 * math.Pow(1-d.Float64(), -1/alpha) }),
			func(q float64) float64 { return 2 * math.Pow(1-q, -1/alpha) }},
		{"pauses in 3 of 100", each(func(d *rand.Rand) float64 {
			if d.Float64() < rare {
				return pause + 5*d.ExpFloat64()
			}
			return 3 + d.Float64()
		}), func(q float64) float64 {
			if q > 1-rare {
				return pause - 5*math.Log((1-q)/rare)
			}
			return 3 + q/(1-rare)
		}},
		shared(0.8), shared(0.98), drifting(), stalls(),
	}
}

// wrongs counts verdicts of one kind of run.
type wrongs struct{ pass, fail, open int }

func (w *wrongs) take(j results.Judgement) {
	switch j {
	case results.Pass:
		w.pass++
	case results.Fail:
		w.fail++
	default:
		w.open++
	}
}

// check holds the share of wrong verdicts against what is stated, with room for
// the simulation's own chance: three standard deviations of few runs, and two
// of many.
func check(t *testing.T, what string, wrong, runs int) {
	t.Helper()
	deviations := 3.0
	if runs >= 1000 {
		deviations = 2
	}
	room := stated + deviations*math.Sqrt(stated*(1-stated)/float64(runs))
	require.LessOrEqual(t, float64(wrong)/float64(runs), room, "%s: %d of %d were wrong", what, wrong, runs)
}

func percentOf(n, of int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(of)) }

// requestsOf are requests that took so many milliseconds, 25 a second.
func requestsOf(latencies []float64) part {
	p := part{cell: newCell()}
	for i, ms := range latencies {
		at := int64(i) * 40e6
		p.add(&results.Request{Scheduled: at, Sent: at, Done: at + int64(ms*1e6), Outcome: results.OK}, false)
	}
	return p
}

func judgePercentile(p part, q, limit float64) results.Judgement {
	e := &evaluation{run: results.Run{Traffic: results.Traffic{MaxLate: 1, MaxLateShare: 0.01}}}
	return e.percentile(budget.Budget{Subject: budget.EndToEnd, Op: budget.Less, Quantile: q, Duration: time.Duration(limit * 1e6)}, p).verdict
}

func TestWrongVerdictsOnPercentilesAreRare(t *testing.T) {
	const n = 6000
	runs := simulated()
	for _, w := range worlds() {
		for _, q := range []float64{0.5, 0.99} {
			t.Run(fmt.Sprintf("%s p%g", w.name, q*100), func(t *testing.T) {
				t.Parallel()
				draw := rand.New(rand.NewPCG(*drawnFrom, uint64(q*1000)))
				truth := w.quantile(q)
				var broken, kept, clearlyBroken, clearlyKept wrongs
				for range runs {
					seen := requestsOf(w.draw(n, 1, draw)[0])
					// A histogram's steps are a thousandth: the truth must lie beyond one.
					broken.take(judgePercentile(seen, q, truth*0.998))
					kept.take(judgePercentile(seen, q, truth*1.002))
					clearlyBroken.take(judgePercentile(seen, q, truth/1.5))
					clearlyKept.take(judgePercentile(seen, q, truth*1.5))
				}
				t.Logf("wrong passes %s, wrong fails %s; of a percentile half as long again %s fail, of one two thirds as long %s pass",
					percentOf(broken.pass, runs), percentOf(kept.fail, runs), percentOf(clearlyBroken.fail, runs), percentOf(clearlyKept.pass, runs))
				check(t, "passed though broken", broken.pass, runs)
				check(t, "failed though kept", kept.fail, runs)
				check(t, "passed though clearly broken", clearlyBroken.pass, runs)
				check(t, "failed though clearly kept", clearlyKept.fail, runs)
			})
		}
	}
}

func TestWrongVerdictsOnAddedLatencyAreRare(t *testing.T) {
	const limit, fewer = 2.0, 500 // resamples; a verdict's own has more
	for _, w := range worlds() {
		for _, c := range []struct {
			q float64
			n int
		}{{0.5, 500}, {0.9, 1000}, {0.99, 3000}} {
			t.Run(fmt.Sprintf("%s p%g", w.name, c.q*100), func(t *testing.T) {
				t.Parallel()
				draw := rand.New(rand.NewPCG(*drawnFrom, uint64(c.q*1000)))
				b := budget.Budget{Subject: budget.AddedLatency, Op: budget.Less, Quantile: c.q, Duration: time.Duration(limit * 1e6)}
				runs := simulated() * 2 / 3
				var broken, none wrongs
				for i := range runs {
					lists := w.draw(c.n, 3, draw)
					added := bootstrap(lists[0], lists[1], c.q, uint64(i), fewer)
					same := bootstrap(lists[0], lists[2], c.q, uint64(i)+1, fewer)
					none.take(judgeDifference(b, "", c.n, added, same).verdict)
					// Were every sample so much longer, every percentile would be.
					longer := difference{added.value + limit, added.lo + limit, added.hi + limit}
					broken.take(judgeDifference(b, "", c.n, longer, same).verdict)
				}
				t.Logf("at the budget: passes %s, fails %s; without an effect: fails %s, passes %s",
					percentOf(broken.pass, runs), percentOf(broken.fail, runs), percentOf(none.fail, runs), percentOf(none.pass, runs))
				check(t, "passed at the budget", broken.pass, runs)
				check(t, "failed at the budget", broken.fail, runs)
				check(t, "failed without an effect", none.fail, runs)
			})
		}
	}
}

func TestWrongVerdictsOnAvailabilityAreRare(t *testing.T) {
	const ratio = 0.9995
	runs := 20 * simulated()
	for _, n := range []int{6000, 9486, 20_000, 100_000} {
		t.Run(fmt.Sprintf("%d requests", n), func(t *testing.T) {
			draw := rand.New(rand.NewPCG(*drawnFrom, uint64(n)))
			judge := func(truth float64) results.Judgement {
				failed := binomial(draw, n, 1-truth)
				p := part{cell: newCell(), needed: 6000}
				p.n, p.failed = int64(n), failed
				return availability(budget.Budget{Subject: budget.Availability, Ratio: ratio}, p).verdict
			}
			var broken, kept, clearlyBroken, clearlyKept wrongs
			for range runs {
				broken.take(judge(ratio - 1e-9))
				kept.take(judge(ratio))
				clearlyBroken.take(judge(0.997))
				clearlyKept.take(judge(0.99999))
			}
			t.Logf("wrong passes %s, wrong fails %s; of 99.7 %% %s fail, of 99.999 %% %s pass",
				percentOf(broken.pass, runs), percentOf(kept.fail, runs), percentOf(clearlyBroken.fail, runs), percentOf(clearlyKept.pass, runs))
			check(t, "passed though broken", broken.pass, runs)
			check(t, "failed though kept", kept.fail, runs)
			check(t, "passed though clearly broken", clearlyBroken.pass, runs)
		})
	}
}

func TestNeighboursThatAreAlikeCountForFewer(t *testing.T) {
	draw := rand.New(rand.NewPCG(5, 6))
	b, alone := newBatches(), newBatches()
	for burst := range 600 {
		failing := draw.IntN(12) == 0
		for i := range 10 {
			at := int64(burst*10+i) * 40e6
			b.add(at, 1e6, failing)
			alone.add(at, 1e6, draw.IntN(12) == 0)
		}
	}
	bursts, p := b.dispersion((*batch).failures)
	require.InDelta(t, 1/12.0, p, 0.03)
	require.InDelta(t, 10, bursts, 4, "bursts of ten")
	single, _ := alone.dispersion((*batch).failures)
	require.InDelta(t, 1.3, single, 0.4)
	require.LessOrEqual(t, len(b.all), maxBatches)
}

func TestNeighboursAreDrawnTogetherWhereTheyAreAlike(t *testing.T) {
	draw := rand.New(rand.NewPCG(7, 8))
	alone := worlds()[0].draw(2000, 2, draw)
	alike := shared(0.95).draw(2000, 2, draw)
	middle := func(v []float64) float64 { return v[ascending(v)[len(v)/2]] }
	of := func(lists [][]float64) int {
		return blockLength(lists[0], lists[1], middle(lists[0]), middle(lists[1]))
	}
	require.LessOrEqual(t, of(alone), 4)
	require.Greater(t, of(alike), 8)
}
