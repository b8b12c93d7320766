package orders_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// sink is inventory and analytics as an outbox tells them; it can fail or hang.
type sink struct {
	shopapi.InventoryManagementClient
	shopapi.AnalyticsServiceClient

	mu        sync.Mutex
	committed []string
	recorded  []string
	calls     int
	fail      bool
	hang      bool
}

func (s *sink) Commit(ctx context.Context, req *shopapi.CommitRequest, _ ...grpc.CallOption) (*shopapi.CommitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = append(s.committed, req.GetOrderIds()...)
	return &shopapi.CommitResponse{}, nil
}

func (s *sink) RecordAll(ctx context.Context, req *shopapi.RecordAllRequest, _ ...grpc.CallOption) (*shopapi.RecordAllResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.fail {
		return nil, shoptest.ErrLost
	}
	for _, e := range req.GetEvents() {
		s.recorded = append(s.recorded, e.GetEventId())
	}
	return &shopapi.RecordAllResponse{}, nil
}

// outbox is one on a store in memory, with some orders settled.
func outbox(t *testing.T, s *sink, ids ...string) (*orders.Outbox, []orders.Event, *shoptest.Orders, *prometheus.Registry) {
	t.Helper()
	store, registry := shoptest.NewOrders(), prometheus.NewRegistry()
	b := orders.NewOutbox(store, s, s, registry, slog.New(slog.DiscardHandler))
	var events []orders.Event
	for _, id := range ids {
		o, _, err := store.Begin(t.Context(), &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 1, Items: []orders.Item{item("p-0001", 1)}})
		require.NoError(t, err)
		e := orders.Event{ID: "order.confirmed:" + id, Kind: "order.confirmed", OrderID: id, ProductIDs: []string{"p-0001"}}
		_, err = store.Settle(t.Context(), o, orders.Outcome{Status: orders.Confirmed, HeldUntil: time.Now().Add(time.Hour), Event: e})
		require.NoError(t, err)
		events = append(events, e)
	}
	return b, events, store, registry
}

// left is how many events the store still has.
func left(t *testing.T, store *shoptest.Orders) int {
	t.Helper()
	events, err := store.TakeEvents(t.Context(), 0, 1000)
	require.NoError(t, err)
	return len(events)
}

func TestEventsThatComeTogetherAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b, events, store, _ := outbox(t, s, "o-1", "o-2", "o-3")
		for _, e := range events {
			b.Tell(e)
		}
		b.Tell(orders.Event{ID: "e-4", Kind: "order.out_of_stock", OrderID: "o-4"})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, s.calls)
		require.Equal(t, []string{"o-1", "o-2", "o-3"}, s.committed)
		require.Equal(t, []string{"order.confirmed:o-1", "order.confirmed:o-2", "order.confirmed:o-3", "e-4"}, s.recorded)
		require.Zero(t, left(t, store))
		b.Close(t.Context())
	})
}

func TestWhatIsQueuedIsToldBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b, events, store, _ := outbox(t, s, "o-1", "o-2")
		for _, e := range events {
			b.Tell(e)
		}
		began := time.Now()
		b.Close(t.Context())
		require.Zero(t, time.Since(began))
		require.Len(t, s.recorded, 2)
		require.Zero(t, left(t, store))
	})
}

// An event that could not be told is told later, until it was; so is one whose
// pod died, and one for which the queue had no room.
func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{fail: true}
		b, events, store, registry := outbox(t, s, "o-1", "o-2")
		b.Tell(events[0]) // and nobody tells of o-2
		time.Sleep(2 * time.Minute)
		s.mu.Lock()
		require.Greater(t, s.calls, 1)
		require.Less(t, s.calls, 6, "it is not hurried")
		require.Empty(t, s.recorded)
		s.fail = false
		s.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.ElementsMatch(t, []string{"order.confirmed:o-1", "order.confirmed:o-2"}, s.recorded)
		require.Zero(t, left(t, store))
		families, err := registry.Gather()
		require.NoError(t, err)
		require.Equal(t, "shop_events_told_total", families[0].GetName())
		require.InDelta(t, 2, families[0].GetMetric()[0].GetCounter().GetValue(), 0)
		b.Close(t.Context())
	})
}

func TestAFullQueueHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{hang: true}
		b, events, _, _ := outbox(t, s, "o-1")
		for range 1000 { // more than the queue holds
			b.Tell(events[0])
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		began := time.Now()
		b.Close(ctx)
		require.Equal(t, 20*time.Millisecond, time.Since(began), "no longer than it may take")
		require.True(t, errors.Is(ctx.Err(), context.DeadlineExceeded))
		time.Sleep(time.Hour) // let it end
	})
}
