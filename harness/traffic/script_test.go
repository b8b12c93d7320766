package traffic

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/journey"
	"meshsim.dev/meshsim/scenarios/shape"
)

// twoSteps is a set whose journeys have two requests on average, over both
// protocols, half a second apart.
func twoSteps(t *testing.T) *journey.Chain {
	t.Helper()
	c, err := journey.New(journey.Set{Longest: 4, Kinds: []journey.Kind{{
		Name: "k", Weight: 1, Think: journey.Think{Median: 500 * time.Millisecond, P90: time.Second}, Start: map[string]int{"look": 1},
		Steps: map[string]journey.Step{
			"look":  {Route: "browse", Then: map[string]int{"stock": 1, journey.Leave: 1}},
			"stock": {Route: "grpc-stock", Then: map[string]int{"order": 1}},
			"order": {Route: "order", Then: map[string]int{journey.Leave: 1}},
		},
	}}})
	require.NoError(t, err)
	require.InDelta(t, 2, c.Steps(), 1e-12)
	return c
}

// lanesUntil collects what all lanes of a script send before end.
func lanesUntil(t *testing.T, tr scenarios.Traffic, seed uint64, end, step time.Duration) []arrival {
	t.Helper()
	script, err := NewScript(tr, seed)
	require.NoError(t, err)
	var all []arrival
	for _, l := range script.plan.lanes(seed) {
		s, err := walked(script, tr.Arriving(), tr.Rates(), always(1))(l)
		require.NoError(t, err)
		last := time.Duration(0)
		for horizon := step; last < end; horizon += step {
			for {
				a, ok := s.next(min(horizon, end))
				if !ok {
					break
				}
				require.GreaterOrEqual(t, a.at, last, "in order")
				require.Contains(t, l.routes, a.route)
				last = a.at
				if a.at < end {
					all = append(all, a)
				}
			}
			last = max(last, min(horizon, end))
		}
	}
	return all
}

func TestJourneysMakeAsManyRequestsAsTheShapeHas(t *testing.T) {
	tr := scenarios.Traffic{Journeys: twoSteps(t), Shape: shape.Step(40, 120, 200*time.Second)}
	got := lanesUntil(t, tr, 11, 400*time.Second, time.Second)
	var early, late float64
	routes := map[string]float64{}
	for _, a := range got {
		routes[a.route]++
		switch {
		case a.at > 10*time.Second && a.at < 190*time.Second:
			early++
		case a.at > 220*time.Second && a.at < 390*time.Second:
			late++
		}
	}
	// requests of one journey come together, so counts spread twice as far as Poisson's
	require.InDelta(t, 180*40, early, 4.5*2*math.Sqrt(180*40))
	require.InDelta(t, 170*120, late, 4.5*2*math.Sqrt(170*120))
	want := tr.Rates().Count(0, 400*time.Second)
	require.InDelta(t, want, len(got), 4.5*2*math.Sqrt(want), "what is planned for is what is sent")
	sum := float64(len(got))
	for route, share := range map[string]float64{"browse": 0.5, "grpc-stock": 0.25, "order": 0.25} {
		require.InDelta(t, sum*share, routes[route], 6*math.Sqrt(sum*share), route)
	}
}

func TestAJourneysStepsAreDueAtItsPausesAndNeverBefore(t *testing.T) {
	tr := scenarios.Traffic{Journeys: twoSteps(t), Shape: shape.Constant(50)}
	got := lanesUntil(t, tr, 3, 60*time.Second, time.Second)
	again := lanesUntil(t, tr, 3, 60*time.Second, 7*time.Millisecond)
	bySeq := func(a, b arrival) int { return int(a.seq) - int(b.seq) }
	slices.SortFunc(got, bySeq)
	slices.SortFunc(again, bySeq)
	require.Equal(t, got, again, "however it is read")

	script, err := NewScript(tr, 3)
	require.NoError(t, err)
	begins := map[uint64]time.Duration{}
	for i, a := range got {
		if i > 0 {
			require.NotEqual(t, got[i-1].seq, a.seq)
		}
		number, k := a.seq/4, a.seq%4
		if k == 0 {
			begins[number] = a.at
		}
		visits := script.walk(number, nil)
		require.Equal(t, visits[k].Route, a.route)
		require.Equal(t, begins[number]+visits[k].After, a.at)
		route, err := script.route(a.seq)
		require.NoError(t, err)
		require.Equal(t, a.route, route)
	}
	_, err = script.route(3) // of a step after the longest walk's third
	require.ErrorIs(t, err, errUnscripted)
}

func TestAllRequestsOfAJourneyAreOneCustomersAboutOneProduct(t *testing.T) {
	shop, err := scenarios.Parse("x.yaml", []byte(`apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: x}
spec: {traffic: {journeys: shop}, phases: [{name: a}], budgets: [failed requests = 0]}
`))
	require.NoError(t, err)
	script, err := NewScript(shop.Spec.Traffic, 5)
	require.NoError(t, err)
	longest := uint64(shop.Spec.Traffic.Journeys.Set().Longest)
	ordered, about := 0, 0
	for number := range uint64(400) {
		customer, product := "", ""
		for k, v := range script.walk(number, nil) {
			c, err := script.call(number*longest+uint64(k), v.Route)
			require.NoError(t, err)
			if c.body == nil {
				continue
			}
			var body struct {
				ProductID, CustomerID string
				Items                 []struct{ ProductID string }
			}
			require.NoError(t, json.Unmarshal(c.body, &body))
			switch v.Route {
			case "configure":
				require.True(t, product == "" || product == body.ProductID, "%s, then %s", product, body.ProductID)
				product = body.ProductID
			case "order":
				require.True(t, customer == "" || customer == body.CustomerID)
				customer = body.CustomerID
				if product != "" {
					ordered++
					if body.Items[0].ProductID == product {
						about++
					}
				}
			}
		}
	}
	require.Greater(t, ordered, 30)
	require.Greater(t, float64(about), 0.9*float64(ordered), "but for what there are five of")
}

func TestEveryRequestOfARunFollowsFromItsRecord(t *testing.T) {
	replay := recordedAt(t, evenly(50, 20*time.Millisecond, "browse", "order", "grpc-stock")...)
	for name, edit := range map[string]func(*scenarios.Traffic){
		"a mix":      func(*scenarios.Traffic) {},
		"gRPC alone": func(tr *scenarios.Traffic) { tr.Mix = map[string]int{"grpc-stock": 1, "browse": 0} },
		"journeys":   func(tr *scenarios.Traffic) { tr.Mix, tr.Journeys = nil, twoSteps(t) },
		"a replay":   func(tr *scenarios.Traffic) { tr.Mix, tr.Replay = nil, replay },
		"HTTP alone": func(tr *scenarios.Traffic) { tr.Mix = map[string]int{"search": 3, "order": 1} },
	} {
		t.Run(name, func(t *testing.T) {
			shop, rec := openShop(t), &record{}
			o := testOptions(shop, rec)
			edit(&o.Traffic)
			s := run(t, o, func(*Stream) { time.Sleep(600 * time.Millisecond) })
			audit(t, s, rec)
			require.NotEmpty(t, rec.all)

			traffic := (&scenarios.Scenario{Spec: scenarios.Spec{Traffic: o.Traffic}}).RecordedTraffic()
			raw, err := json.Marshal(results.Run{Seed: o.Seed, Traffic: traffic})
			require.NoError(t, err)
			var kept results.Run
			require.NoError(t, json.Unmarshal(raw, &kept))
			script, err := ScriptOf(kept)
			require.NoError(t, err)
			for _, q := range rec.all {
				p, err := script.Prepare(q.Seq, q.Route)
				require.NoError(t, err, fmt.Sprint(q))
				require.Equal(t, []any{q.Route, q.Proto}, []any{p.Route, p.Proto})
				if q.Outcome != results.Undispatched {
					require.Equal(t, q.OrderID, p.OrderID)
				}
				if o.Traffic.Replay == nil {
					again, err := script.Prepare(q.Seq, "")
					require.NoError(t, err)
					require.Equal(t, p.Curl("a"), again.Curl("a"))
				}
			}
		})
	}
}

func TestARecordThatDoesNotSayWhatWasSentIsRefused(t *testing.T) {
	_, err := ScriptOf(results.Run{})
	require.ErrorContains(t, err, "does not say which routes were sent")
	_, err = ScriptOf(results.Run{Traffic: results.Traffic{Journeys: &journey.Set{}}})
	require.ErrorContains(t, err, "the run's journeys: longest should be")
	script, err := ScriptOf(results.Run{Traffic: results.Traffic{Replayed: []string{"browse", "grpc-stock"}}})
	require.NoError(t, err)
	_, err = script.Prepare(4, "")
	require.ErrorIs(t, err, errRecorded)
	p, err := script.Prepare(5, "")
	require.NoError(t, err)
	require.Equal(t, "grpc-stock", p.Route)
	_, err = script.Prepare(5, "browse")
	require.ErrorContains(t, err, "request 5 is grpc-stock by the seed, and browse by the record")
}

func TestJourneysKeepTheirPausesWhateverTheShopDoes(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.Traffic.Mix, o.Traffic.Journeys = nil, twoSteps(t)
	shop.slow.Store(int64(400 * time.Millisecond)) // longer than many pauses
	s := run(t, o, func(*Stream) { time.Sleep(2 * time.Second) })
	audit(t, s, rec)
	onlySent(t, rec)
	due, overtaken := map[uint64]int64{}, 0
	done := map[uint64]int64{}
	for _, q := range rec.all {
		due[q.Seq], done[q.Seq] = q.Scheduled, q.Done
	}
	script, err := NewScript(o.Traffic, o.Seed)
	require.NoError(t, err)
	for seq, at := range due {
		if before, ok := due[seq-1]; ok && seq%4 > 0 {
			visits := script.walk(seq/4, nil)
			pause := visits[seq%4].After - visits[seq%4-1].After
			require.Equal(t, int64(pause), at-before)
			if at < done[seq-1] {
				overtaken++
			}
		}
	}
	require.Positive(t, overtaken, "a step comes when it is due, its forerunner answered or not")
}

func TestGRPCIsSentInLegsWithoutAGap(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.Traffic.Mix, o.legs = map[string]int{"grpc-stock": 1}, 40
	s := run(t, o, func(*Stream) { time.Sleep(1500 * time.Millisecond) })
	audit(t, s, rec)
	onlySent(t, rec)
	require.Greater(t, len(rec.all), 5*40)
	for _, q := range rec.all {
		require.NotEqual(t, results.ClassSender, q.Class, "%+v", q)
	}
	require.EqualValues(t, len(rec.all), shop.calls.Load(), "each was sent once")
}

func TestAPreparedRequestIsSentOnceMoreAndAnswered(t *testing.T) {
	shop := openShop(t)
	script, err := NewScript(scenarios.Traffic{Mix: map[string]int{"order": 1, "grpc-stock": 1}}, 3)
	require.NoError(t, err)
	for seq := range uint64(12) {
		p, err := script.Prepare(seq, "")
		require.NoError(t, err)
		addr := shop.http
		if p.Proto == "grpc" {
			addr = shop.grpc
		}
		before := shop.calls.Load()
		a, err := p.Send(t.Context(), addr, 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, before+1, shop.calls.Load())
		require.Equal(t, "edge-1", a.Pod)
		require.Positive(t, a.Took)
		if p.Proto == "http" {
			require.Equal(t, fate(p.OrderID), a.Status)
			require.Contains(t, shop.orders, p.OrderID)
			continue
		}
		var id struct{ ProductID string }
		require.NoError(t, json.Unmarshal([]byte(p.Body), &id))
		require.Equal(t, known(id.ProductID), a.Outcome == results.OK)
		require.Contains(t, p.Curl("127.0.0.1:9"), "grpcurl -plaintext -proto fakeshop/shopapi/inventory.proto -d '{\"productId\":\""+id.ProductID)
	}

	p, err := script.Prepare(0, "")
	require.NoError(t, err)
	_, err = p.Send(t.Context(), "10.0.0.1:80", time.Second)
	require.ErrorContains(t, err, "traffic goes to 127.0.0.1 only")
	a, err := p.Send(t.Context(), "127.0.0.1:1", time.Second)
	require.NoError(t, err, "what becomes of it is its answer")
	require.Equal(t, []string{results.Failed, results.ClassConnectRefused}, []string{a.Outcome, a.Class})
}

func TestWordsOfAShellAreQuoted(t *testing.T) {
	require.Equal(t, `'it'\''s'`, quoted("it's"))
}
