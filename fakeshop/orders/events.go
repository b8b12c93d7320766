package orders

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Notes sends events to analytics in the background: an order does not fail,
// nor wait, because nobody counts it. What could not be sent is counted.
type Notes struct {
	client shopapi.AnalyticsServiceClient
	log    *slog.Logger
	queue  chan *shopapi.RecordRequest
	lost   prometheus.Counter
	done   sync.WaitGroup
}

// NewNotes starts the sender. Close must be called.
func NewNotes(client shopapi.AnalyticsServiceClient, metrics prometheus.Registerer, log *slog.Logger) *Notes {
	n := &Notes{
		client: client, log: log,
		queue: make(chan *shopapi.RecordRequest, 256),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "shop_events_lost_total", Help: "Events that analytics did not get.",
		}),
	}
	metrics.MustRegister(n.lost)
	n.done.Go(n.send)
	return n
}

// Note queues an event; a full queue loses it.
func (n *Notes) Note(kind, subject string) {
	// The id is the event's own, so that a repeated step is counted once.
	e := &shopapi.RecordRequest{EventId: kind + ":" + subject, Kind: kind, Subject: subject}
	select {
	case n.queue <- e:
	default:
		n.lost.Inc()
	}
}

func (n *Notes) send() {
	for e := range n.queue {
		if _, err := n.client.Record(context.Background(), e); err != nil { // the connection has a deadline for it
			n.lost.Inc()
			n.log.Warn("event lost", "kind", e.GetKind(), "error", err)
		}
	}
}

// Close sends what is queued and stops; nothing may be noted after it.
func (n *Notes) Close(ctx context.Context) {
	close(n.queue)
	sent := make(chan struct{})
	go func() { n.done.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-ctx.Done():
	}
}
