package catalog

import (
	"context"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// pageWithin is how long a product's page waits for what is shown beside the
// product. The page comes without a part that is late or away: a shop that
// shows no page sells nothing.
const (
	pageWithin = 400 * time.Millisecond
	goesLimit  = 4
)

// Parts of a page that may be missing.
const (
	partAvailability = "availability"
	partGoesWith     = "goes_with"
)

// page is a product with what is shown beside it.
type page struct {
	stock    *shopapi.GetStockResponse
	goesWith []int // places in the copy
	missing  []string
}

// beside asks for what is shown beside a product.
func (s *Service) beside(ctx context.Context, c *snapshot, id string) page {
	ctx, cancel := context.WithTimeout(ctx, pageWithin)
	defer cancel()
	var out page
	var stockErr, relatedErr error
	var related *shopapi.RelatedResponse
	var both sync.WaitGroup
	both.Go(func() {
		out.stock, stockErr = s.peers.Inventory.GetStock(ctx, &shopapi.GetStockRequest{ProductId: id})
	})
	both.Go(func() {
		related, relatedErr = s.peers.Recommend.Related(ctx, &shopapi.RelatedRequest{ProductId: id})
	})
	both.Wait()
	out.without(s, partAvailability, stockErr)
	out.without(s, partGoesWith, relatedErr)
	for _, other := range related.GetProductIds() {
		if i, known := c.byID[other]; known && other != id && len(out.goesWith) < goesLimit {
			out.goesWith = append(out.goesWith, i)
		}
	}
	return out
}

func (p *page) without(s *Service, part string, err error) {
	if err == nil {
		return
	}
	p.missing = append(p.missing, part)
	s.log.Warn("a page is shown without a part", "part", part, "hop", fail.From(err).Chain(Name), "error", err)
}
