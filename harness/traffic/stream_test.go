package traffic

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record keeps all results.
type record struct {
	mu  sync.Mutex
	all []results.Request
}

func (r *record) add(q results.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, q)
}

func testOptions(s *shop, r *record) Options {
	return Options{
		Traffic: scenarios.Traffic{
			// a day of ten minutes at 300 requests a second, so that a second of it is steady
			Day: scenarios.Day{Requests: 180_000, LaunchRequests: 180_000}, CompressTo: 10 * time.Minute,
			Timeout: 5 * time.Second, MaxLate: 100 * time.Millisecond,
			Mix: map[string]int{"browse": 40, "order": 40, "grpc-get-product": 20, "grpc-stock": 20},
		},
		Seed: 5000, HTTP: s.http, GRPC: s.grpc, Begin: time.Now().Add(-time.Hour),
		PhaseAt: func(int64) string { return "all" }, ScaleAt: func(int64) float64 { return 1 }, Sink: r.add,
	}
}

// audit checks that every scheduled request is accounted for exactly once.
func audit(t *testing.T, s *Stream, r *record) {
	t.Helper()
	total := s.Total()
	require.Equal(t, total.Scheduled, total.OK+total.Rejected+total.Failed+total.Undispatched)
	require.Zero(t, total.InFlight())
	require.Len(t, r.all, int(total.Scheduled))
	seen, outcomes := map[uint64]bool{}, map[string]int{}
	for _, q := range r.all {
		require.False(t, seen[q.Seq], "request %d twice", q.Seq)
		seen[q.Seq] = true
		outcomes[q.Outcome]++
		require.NotEmpty(t, q.Route)
		if q.Outcome != results.Undispatched {
			require.LessOrEqual(t, q.Scheduled, q.Sent)
			require.LessOrEqual(t, q.Sent, q.Done)
		}
	}
	require.EqualValues(t, outcomes[results.OK], total.OK)
	require.EqualValues(t, outcomes[results.Rejected], total.Rejected)
	require.EqualValues(t, outcomes[results.Failed], total.Failed)
	require.EqualValues(t, outcomes[results.Undispatched], total.Undispatched)
}

// onlySent drops what a busy machine did not send before the stop, which must
// be little.
func onlySent(t *testing.T, r *record) {
	t.Helper()
	all := len(r.all)
	r.all = slices.DeleteFunc(r.all, func(q results.Request) bool { return q.Outcome == results.Undispatched })
	require.Greater(t, len(r.all), all/2)
}

func run(t *testing.T, o Options, during func(*Stream)) *Stream {
	t.Helper()
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	during(s)
	require.NoError(t, s.Stop())
	return s
}

func TestEveryAnswerIsMatchedWithItsRequest(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	s := run(t, o, func(*Stream) { time.Sleep(2 * time.Second) })
	audit(t, s, rec)
	onlySent(t, rec)

	routes := map[string]int{}
	for _, q := range rec.all {
		routes[q.Route]++
		require.Equal(t, "edge-1", q.Pod, "%+v", q)
		switch q.Route {
		case "browse":
			require.Equal(t, results.OK, q.Outcome)
			require.Equal(t, "http", q.Proto)
		case "order":
			require.Equal(t, fate(q.OrderID), q.Status)
			arrived, ok := shop.orders[q.OrderID]
			require.True(t, ok)
			at := int64(arrived.Sub(o.Begin))
			require.True(t, q.Sent <= at && at <= q.Done, "sent %d, arrived %d, done %d", q.Sent, at, q.Done)
		case "grpc-get-product", "grpc-stock":
			require.Equal(t, "grpc", q.Proto)
			m, _ := methodFor(q.Route)
			stream := q.Seq % 3
			message := m.message(draw(o.Seed, stream, (q.Seq-stream)/3), nil)
			var id string
			if q.Route == "grpc-stock" {
				id = message.(*shopapi.GetStockRequest).GetProductId()
			} else {
				id = message.(*shopapi.GetProductRequest).GetId()
			}
			switch {
			case known(id):
				require.Equal(t, results.OK, q.Outcome)
			case q.Route == "grpc-stock":
				require.Equal(t, []any{results.Failed, "grpc-INTERNAL", id}, []any{q.Outcome, q.Class, q.Error})
			default:
				require.Equal(t, []any{results.Rejected, "", id}, []any{q.Outcome, q.Class, q.Error})
			}
		}
	}
	sum := float64(len(rec.all))
	for route, share := range map[string]float64{"browse": 1. / 3, "order": 1. / 3, "grpc-get-product": 1. / 6, "grpc-stock": 1. / 6} {
		require.InDelta(t, sum*share, routes[route], 5*math.Sqrt(sum*share), route)
	}
	require.EqualValues(t, len(rec.all), shop.calls.Load(), "each was sent once")
}

func TestTheScheduleIsTheSeedsAndNotTheMoments(t *testing.T) {
	var days [2][]int64
	for i := range days {
		shop, rec := openShop(t), &record{}
		o := testOptions(shop, rec)
		shop.slow.Store(int64(i) * int64(20*time.Millisecond)) // a slower shop moves nothing
		s := run(t, o, func(*Stream) { time.Sleep(700 * time.Millisecond) })
		offset := int64(s.began.Sub(o.Begin))
		slices.SortFunc(rec.all, func(a, b results.Request) int { return int(a.Seq) - int(b.Seq) })
		for _, q := range rec.all {
			if at := q.Scheduled - offset; at < int64(500*time.Millisecond) {
				days[i] = append(days[i], at)
			}
		}
	}
	require.Greater(t, len(days[0]), 50)
	require.Equal(t, days[0], days[1])
}

func TestASlowShopIsWaitedForAndAHangingOneTimesOut(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	shop.slow.Store(int64(300 * time.Millisecond))
	s := run(t, o, func(*Stream) { time.Sleep(500 * time.Millisecond) })
	audit(t, s, rec)
	onlySent(t, rec)
	for _, q := range rec.all {
		require.NotEqual(t, results.ClassTimeout, q.Class)
		require.GreaterOrEqual(t, q.Latency(), int64(300*time.Millisecond))
		require.Less(t, time.Duration(q.Lag()), 290*time.Millisecond, "open loop: slow answers do not hold up the next request")
	}

	*rec = record{}
	o.Traffic.Timeout = 500 * time.Millisecond
	shop.hang.Store(true)
	stopping := time.Now()
	s = run(t, o, func(*Stream) { time.Sleep(300 * time.Millisecond); stopping = time.Now() })
	require.Less(t, time.Since(stopping), 2*o.Traffic.Timeout, "no longer than a timeout")
	audit(t, s, rec)
	onlySent(t, rec)
	for _, q := range rec.all {
		require.Equal(t, []any{results.Failed, results.ClassTimeout}, []any{q.Outcome, q.Class}, "%+v", q)
		require.InDelta(t, float64(o.Traffic.Timeout), float64(q.Done-q.Sent), float64(300*time.Millisecond))
	}
}

func TestAShopThatIsTakenAwayLosesNoRequestFromTheBook(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	shop.slow.Store(int64(50 * time.Millisecond))
	s := run(t, o, func(*Stream) {
		time.Sleep(400 * time.Millisecond)
		shop.cut()
		time.Sleep(400 * time.Millisecond)
	})
	audit(t, s, rec)
	onlySent(t, rec)
	classes := map[string]map[string]int{"http": {}, "grpc": {}}
	for _, q := range rec.all {
		classes[q.Proto][q.Class]++
		require.NotEqual(t, results.ClassSender, q.Class, "%+v", q)
	}
	for proto, c := range classes {
		require.Positive(t, c[""], proto)
		require.Positive(t, c[results.ClassConnectRefused], "%s: %v", proto, c)
	}
}

func TestAnInterruptedStreamIsAccountedForToo(t *testing.T) {
	shop, rec := openShop(t), &record{}
	shop.slow.Store(int64(100 * time.Millisecond))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, testOptions(shop, rec))
	require.NoError(t, err)
	time.Sleep(200 * time.Millisecond)
	cancel()
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "a second time")
	audit(t, s, rec)
	require.NotEmpty(t, rec.all)
}

func TestAStreamThatIsStoppedAtOnceEndsAtOnce(t *testing.T) {
	shop, rec := openShop(t), &record{}
	for range 20 {
		*rec = record{}
		s := run(t, testOptions(shop, rec), func(*Stream) {})
		audit(t, s, rec)
	}
}

func TestTheScaleMayChangeAndPhasesAreKept(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.Begin = time.Now()
	var loud atomic.Bool
	o.ScaleAt = func(int64) float64 {
		if loud.Load() {
			return 2
		}
		return 0
	}
	var boundary atomic.Int64
	boundary.Store(math.MaxInt64)
	o.PhaseAt = func(at int64) string {
		if at < boundary.Load() {
			return "quiet"
		}
		return "loud"
	}
	s := run(t, o, func(s *Stream) {
		time.Sleep(300 * time.Millisecond)
		require.Zero(t, s.Counts("quiet").Scheduled)
		boundary.Store(int64(time.Since(o.Begin)))
		loud.Store(true)
		time.Sleep(600 * time.Millisecond)
	})
	audit(t, s, rec)
	c := s.Counts("loud")
	require.Greater(t, c.Requests, int64(100))
	// a pacer that woke late reads the new scale for a moment that is past
	require.InDelta(t, s.Total().Requests, c.Requests, 20)
	require.Positive(t, c.P50)
	require.LessOrEqual(t, c.P50, c.P99)
	require.Equal(t, Counts{}, s.Counts("unheard of"))
}

// The sender comes for one request and never again.
func TestWhatASenderNeverCameForIsUndispatched(t *testing.T) {
	rec := &record{}
	b := newBook(50*time.Millisecond, func(int64) string { return "p" }, rec.add)
	d := &desk{proto: "http", book: b.shelf(), pending: map[uint64]*results.Request{}}
	stop := make(chan struct{})
	const rate, end = 100, 10 * time.Second
	p := &pacer{
		schedule: &drawnSchedule{
			Arrivals: NewArrivals(shape.Constant(rate), 1, 1, 0, steady(1)), lane: lane{streams: 1, route: func(uint64) string { return "browse" }},
		},
		desk: d, stop: stop, alarm: newAlarm(),
		began: time.Now().Add(-time.Hour), stopped: func() time.Duration { return end },
	}
	t.Cleanup(p.alarm.close)
	_, ended := p.Pace(0, 0)
	require.False(t, ended)
	n, r, ok := d.take()
	require.True(t, ok)
	close(stop)
	_, ended = p.Pace(0, 1)
	require.True(t, ended)
	d.finish(n, time.Duration(r.Scheduled)+time.Second, time.Duration(r.Scheduled)+2*time.Second, "", judgement{Outcome: results.OK})
	d.finish(n, 0, 0, "", judgement{Outcome: results.Failed}) // a second time counts for nothing
	d.sweep()

	want := len(until(NewArrivals(shape.Constant(rate), 1, 1, 0, steady(1)), end+1, end+1))
	c := b.total()
	require.Equal(t, Counts{Scheduled: int64(want), Requests: 1, OK: 1, Late: 1, Undispatched: int64(want - 1), P50: c.P50, P99: c.P99}, c)
	require.InDelta(t, 2*time.Second, c.P50, float64(5*time.Millisecond))
	require.Len(t, rec.all, want)
	for _, q := range rec.all {
		if q.Outcome == results.Undispatched {
			require.Equal(t, results.ClassSender, q.Class)
			require.LessOrEqual(t, q.Scheduled, int64(end))
			require.Zero(t, q.Sent+q.Done)
		}
	}
	require.Equal(t, fmt.Sprintf("1 requests, 0 failed, p99 %s, 1 late, %d not sent", c.P99.Round(100*time.Microsecond), want-1), c.String())
}

func TestASenderThatEndsEarlyLeavesNothingOpen(t *testing.T) {
	rec := &record{}
	b := newBook(time.Second, func(int64) string { return "p" }, rec.add)
	d := &desk{book: b.shelf(), pending: map[uint64]*results.Request{}}
	for i := range 5 {
		d.open(arrival{at: time.Duration(i), route: "browse"})
	}
	_, ok := d.claim(3)
	require.True(t, ok)
	_, ok = d.claim(5)
	require.False(t, ok)
	d.sweep()
	require.Equal(t, int64(5), b.total().Undispatched)
	require.Len(t, rec.all, 5)
}

func TestStartRefusesWhatCannotBeSent(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"another host", func(o *Options) { o.HTTP = "shop.example:80" }, "traffic goes to 127.0.0.1 only"},
		{"another gRPC host", func(o *Options) { o.GRPC = "10.0.0.1:9090" }, "traffic goes to 127.0.0.1 only"},
		{"an unknown route", func(o *Options) { o.Traffic.Mix = map[string]int{"shoplift": 1} }, `unknown route "shoplift"`},
		{"an empty mix", func(o *Options) { o.Traffic.Mix = map[string]int{"browse": 0} }, "no route"},
		{"a negative weight", func(o *Options) { o.Traffic.Mix = map[string]int{"browse": -1} }, "less than nothing"},
		{"no timeout", func(o *Options) { o.Traffic.Timeout = 0 }, "more than nothing"},
		{"no day", func(o *Options) { o.Traffic.CompressTo = 0 }, "more than nothing"},
		{"a negative day", func(o *Options) { o.Traffic.Day.Requests = -1 }, "fewer requests than none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions(&shop{http: "127.0.0.1:1", grpc: "127.0.0.1:1"}, &record{})
			c.edit(&o)
			_, err := Start(t.Context(), o)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
}

func TestAnHTTPOnlyMixNeedsNoGRPCAddress(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.GRPC = ""
	o.Traffic.Mix = map[string]int{"browse": 1}
	s := run(t, o, func(*Stream) { time.Sleep(100 * time.Millisecond) })
	audit(t, s, rec)
}

func BenchmarkBook(b *testing.B) {
	book := newBook(50*time.Millisecond, func(int64) string { return "p" }, func(results.Request) {})
	d := &desk{book: book.shelf(), pending: map[uint64]*results.Request{}}
	at := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		at += time.Millisecond
		d.open(arrival{at: at, route: "browse"})
		n, _, _ := d.take()
		d.finish(n, at, at+time.Millisecond, "", judgement{Outcome: results.OK})
	}
}
