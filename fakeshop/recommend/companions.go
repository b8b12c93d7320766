package recommend

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// How old what is bought together may be, and how much of it is kept.
const (
	staleAfter    = time.Minute
	companionMost = 8
)

// companions is what is bought together, as analytics last said. It is asked
// again only when somebody wants it and it is old; whoever wants it does not
// wait for that. A shop that nobody visits asks nothing.
type companions struct {
	analytics shopapi.AnalyticsServiceClient
	log       *slog.Logger
	wanted    chan struct{}

	mu    sync.Mutex
	with  map[string][]string
	asked time.Time
}

func newCompanions(analytics shopapi.AnalyticsServiceClient, log *slog.Logger) *companions {
	return &companions{analytics: analytics, log: log, wanted: make(chan struct{}, 1)}
}

// of returns what is bought with a product, best first; nobody may change it.
func (c *companions) of(productID string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asked) > staleAfter {
		select {
		case c.wanted <- struct{}{}:
		default: // wanted already
		}
	}
	return c.with[productID]
}

func (c *companions) refresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wanted:
			c.ask(ctx)
		}
	}
}

// ask asks analytics. When it cannot be asked, what is known stays, for as long
// again.
func (c *companions) ask(ctx context.Context) {
	c.mu.Lock()
	fresh := time.Since(c.asked) <= staleAfter
	c.mu.Unlock()
	if fresh {
		return // wanted while the last answer was on its way
	}
	said, err := c.analytics.BoughtTogether(ctx, &shopapi.BoughtTogetherRequest{Most: companionMost})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = time.Now()
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("asking what is bought together", "error", err)
		}
		return
	}
	with := make(map[string][]string, len(said.GetProducts()))
	for _, p := range said.GetProducts() {
		with[p.GetProductId()] = p.GetWith()
	}
	c.with = with
}
