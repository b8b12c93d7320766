package orders

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// How events are told.
const (
	gather      = 300 * time.Millisecond // events that come so soon after another are told with it
	batchLimit  = 100
	takeEvery   = 30 * time.Second // and up to half as much more
	takeLeft    = 30 * time.Second
	tellWithin  = 5 * time.Second
	queueLength = 256
)

// Outbox tells of orders that were settled: Inventory, which then keeps their
// stock for good, and Analytics. What was written with an order is told at
// least once: by the pod that wrote it at once, else by any pod later.
type Outbox struct {
	store     Store
	inventory shopapi.InventoryManagementClient
	analytics shopapi.AnalyticsServiceClient
	log       *slog.Logger
	queue     chan Event
	stop      chan struct{}
	done      sync.WaitGroup
	told      prometheus.Counter
	untold    prometheus.Counter
}

// NewOutbox starts to tell. Close must be called.
func NewOutbox(store Store, inventory shopapi.InventoryManagementClient, analytics shopapi.AnalyticsServiceClient,
	metrics prometheus.Registerer, log *slog.Logger) *Outbox {
	b := &Outbox{
		store: store, inventory: inventory, analytics: analytics, log: log,
		queue: make(chan Event, queueLength), stop: make(chan struct{}),
		told: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shop_events_told_total", Help: "Events that everyone concerned has been told.",
		}),
		untold: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shop_events_untold_total", Help: "Events that could not be told at once and are told later.",
		}),
	}
	metrics.MustRegister(b.told, b.untold)
	b.done.Go(b.work)
	return b
}

// Tell queues an event. When the queue is full, or the pod dies, it is found in
// the store.
func (b *Outbox) Tell(e Event) {
	select {
	case b.queue <- e:
	default:
		b.untold.Inc()
	}
}

func (b *Outbox) work() {
	look := time.NewTimer(takeEvery + rand.N(takeEvery/2))
	defer look.Stop()
	for {
		select {
		case <-b.stop:
			b.tellRest()
			return
		case e := <-b.queue:
			b.now(b.more([]Event{e}, time.After(gather)))
		case <-look.C:
			if err := b.TellLeft(context.Background(), takeLeft); err != nil {
				b.log.Warn("telling events left untold", "error", err)
			}
			look.Reset(takeEvery + rand.N(takeEvery/2))
		}
	}
}

// more waits for events to go with the first, until the time is over.
func (b *Outbox) more(events []Event, over <-chan time.Time) []Event {
	for len(events) < batchLimit {
		select {
		case e := <-b.queue:
			events = append(events, e)
		case <-over:
			return events
		case <-b.stop:
			return events
		}
	}
	return events
}

// tellRest tells what is queued at the end.
func (b *Outbox) tellRest() {
	over := make(chan time.Time)
	close(over)
	for {
		select {
		case e := <-b.queue:
			b.now(b.more([]Event{e}, over))
		default:
			return
		}
	}
}

// TellLeft tells events that nobody has taken upon himself for so long. Those
// that cannot be told now will be found again.
func (b *Outbox) TellLeft(ctx context.Context, left time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	events, err := b.store.TakeEvents(ctx, left, batchLimit)
	if err != nil || len(events) == 0 {
		return err
	}
	return b.send(ctx, events)
}

// now tells events that were just queued. When that fails they are left.
func (b *Outbox) now(events []Event) {
	ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
	defer cancel()
	if err := b.send(ctx, events); err != nil {
		b.log.Warn("events could not be told, they will be again", "events", len(events), "error", err)
	}
}

func (b *Outbox) send(ctx context.Context, events []Event) error {
	err := b.tell(ctx, events)
	if err != nil {
		b.untold.Add(float64(len(events)))
		return err
	}
	b.told.Add(float64(len(events)))
	return nil
}

func (b *Outbox) tell(ctx context.Context, events []Event) error {
	var confirmed, ids []string
	var records []*shopapi.RecordRequest
	for _, e := range events {
		ids = append(ids, e.ID)
		records = append(records, &shopapi.RecordRequest{EventId: e.ID, Kind: e.Kind, Subject: e.OrderID, ProductIds: e.ProductIDs})
		if e.Kind == "order."+string(Confirmed) {
			confirmed = append(confirmed, e.OrderID)
		}
	}
	if len(confirmed) > 0 {
		kept, err := b.inventory.Commit(ctx, &shopapi.CommitRequest{OrderIds: confirmed})
		if err != nil {
			return fmt.Errorf("committing reservations: %w", err)
		}
		if len(kept.GetNotHeld()) > 0 {
			b.log.Error("confirmed orders have no stock kept", "orders", kept.GetNotHeld())
		}
	}
	if _, err := b.analytics.RecordAll(ctx, &shopapi.RecordAllRequest{Events: records}); err != nil {
		return fmt.Errorf("recording events: %w", err)
	}
	return b.store.DropEvents(ctx, ids)
}

// Close tells what is queued and stops; nothing may be told after it.
func (b *Outbox) Close(ctx context.Context) {
	close(b.stop)
	ended := make(chan struct{})
	go func() { b.done.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
