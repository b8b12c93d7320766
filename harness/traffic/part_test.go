package traffic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

func TestEveryDirectRouteHasItsMethod(t *testing.T) {
	for _, r := range scenarios.DirectRoutes() {
		m, ok := methodFor(r.Name)
		require.True(t, ok, r.Name)
		require.Equal(t, r.Service, m.service)
		require.NotNil(t, m.message(draw(1, 2, 3), nil))
		s := &grpcSender{method: m}
		_, err := s.describe()
		require.NoError(t, err)
	}
	_, ok := methodFor("payment-gateway/Charge")
	require.False(t, ok)
}

// A request is the same whether one sender sends all or several share them.
func TestAPartSendsWhatTheWholeWouldHaveSentInItsPlace(t *testing.T) {
	shop := openShop(t)
	whole, half := &record{}, &record{}
	o := testOptions(shop, whole)
	o.Traffic.Shape = shape.Constant(200)
	o.Traffic.Mix = map[string]int{"order": 3, "grpc-stock": 1}
	began := time.Now()
	o.Began = began
	wholeStream := run(t, o, func(*Stream) { time.Sleep(700 * time.Millisecond) })
	audit(t, wholeStream, whole)

	o.Began, o.Sink = time.Now(), half.add
	o.Mine = func(d Due) bool { return d.Number%2 == 1 }
	halfStream := run(t, o, func(*Stream) { time.Sleep(700 * time.Millisecond) })
	audit(t, halfStream, half)
	onlySent(t, whole)
	onlySent(t, half)
	orders := map[uint64]string{}
	for _, q := range whole.all {
		orders[q.Seq] = q.Route + " " + q.OrderID
	}
	shared := 0
	for _, q := range half.all {
		require.Equal(t, uint64(1), q.Seq/2%2, "only what is its own: %d", q.Seq)
		if was, ok := orders[q.Seq]; ok {
			require.Equal(t, was, q.Route+" "+q.OrderID)
			shared++
		}
	}
	require.Greater(t, shared, 20)
}

func TestEachDueTellsTheArrivalsThatAreSent(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.Began = time.Now()
	const end = 500 * time.Millisecond
	zero := int64(o.Began.Sub(o.Begin))
	o.ScaleAt = func(at int64) float64 {
		if at >= zero+int64(end) {
			return 0
		}
		return 1
	}
	s := run(t, o, func(*Stream) { time.Sleep(end + 200*time.Millisecond) })
	audit(t, s, rec)
	due := map[uint64]Due{}
	require.NoError(t, EachDue(o, end, func(d Due) { due[d.Seq] = d }))
	require.Len(t, due, len(rec.all))
	for _, q := range rec.all {
		require.Equal(t, zero+int64(due[q.Seq].At), q.Scheduled)
		require.Equal(t, due[q.Seq].Route, q.Route)
	}
	lanes, err := Lanes(o)
	require.NoError(t, err)
	require.Equal(t, uint64(3), lanes)
}

func TestAnotherSendersResultsCountAsThisRuns(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.ScaleAt = func(int64) float64 { return 0 }
	s := run(t, o, func(s *Stream) {
		for _, q := range rec.all {
			t.Errorf("nothing was to be sent: %+v", q)
		}
	})
	for i := range 3 {
		q := requestOf(i)
		s.Take(q)
	}
	require.Equal(t, int64(3), s.Counts("all").OK)
	require.Equal(t, int64(3), s.Latencies().TotalCount())
	require.Equal(t, "all", rec.all[2].Phase)
	require.Equal(t, "load/0", rec.all[2].Agent)
}

func TestOnlyTheHostsThatAreNamedMayBeSentTo(t *testing.T) {
	require.NoError(t, checkAddress("gRPC", "shop.prod.svc:9090", "shop.prod.svc"))
	require.ErrorContains(t, checkAddress("gRPC", "other.prod.svc:9090", "shop.prod.svc"), "traffic goes to 127.0.0.1 only")
	_, err := dialOnly("shop.prod.svc")(t.Context(), "tcp", "192.0.2.1:80")
	require.ErrorIs(t, err, errForeign)
}

// requestOf is a result that came from an agent.
func requestOf(i int) results.Request {
	at := int64(i) * int64(time.Millisecond)
	return results.Request{Seq: uint64(i), Scheduled: at, Sent: at, Done: at + int64(time.Millisecond), Outcome: results.OK, Agent: "load/0"}
}
