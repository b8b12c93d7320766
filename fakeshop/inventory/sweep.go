package inventory

import (
	"context"
	"math/rand/v2"
	"time"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// How reservations that should have ended are looked for. Any number of pods
// may look at once: each step is done once whoever does it.
const (
	sweepEvery = 45 * time.Second // and up to half as much more, so that pods do not look together
	sweepLimit = 100
	// overdue is how long after its end a reservation is given up. Orders are
	// not confirmed after that end, by the same clock; so none is that was just
	// being confirmed.
	overdue = 30 * time.Second
)

// Sweep ends reservations whose time is over, until ctx ends.
func (s *Service) Sweep(ctx context.Context) {
	timer := time.NewTimer(sweepEvery + rand.N(sweepEvery/2))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			if err := s.EndOverdue(ctx, overdue); err != nil && ctx.Err() == nil {
				s.log.Warn("ending reservations whose time is over", "error", err)
			}
			timer.Reset(sweepEvery + rand.N(sweepEvery/2))
		}
	}
}

// EndOverdue ends some reservations that should have ended so long ago. It asks
// what became of the orders: what is sold is committed, which somebody failed
// to say, and all else is given back. When the orders cannot be asked,
// everything stays.
func (s *Service) EndOverdue(ctx context.Context, overdue time.Duration) error {
	ids, err := s.store.Overdue(ctx, overdue, sweepLimit)
	if err != nil || len(ids) == 0 {
		return err
	}
	known, err := s.orders.GetStatuses(ctx, &shopapi.GetStatusesRequest{Ids: ids})
	if err != nil {
		return err
	}
	var sold []string
	for _, id := range ids {
		if known.GetStatuses()[id] == "confirmed" {
			sold = append(sold, id)
			continue
		}
		state, err := s.store.Expire(ctx, id, overdue)
		if err != nil {
			return err
		}
		if state == Expired {
			s.log.Info("a reservation has expired", "order", id)
		}
	}
	if len(sold) == 0 {
		return nil
	}
	_, err = s.store.Commit(ctx, sold)
	return err
}
