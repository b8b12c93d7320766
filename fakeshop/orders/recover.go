package orders

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"meshsim.dev/meshsim/fakeshop/fail"
)

// How orders that were left unsettled are looked for. A pod tries its own again
// soon; those of pods that are gone are found in the database, where nobody
// looks often.
const (
	leftFor      = 15 * time.Second // well over settleWithin
	recoverEvery = 30 * time.Second // and up to half as much more, so that pods do not look together
	recoverLimit = 10
	ownTries     = 4
	ownFirst     = time.Second // doubled with each try
)

// later remembers an order that this pod could not bring to its end; when
// there are too many, they are found in the database.
func (s *Service) later(id string) {
	select {
	case s.failed <- id:
	default:
	}
}

// retry is an order to be tried again.
type retry struct {
	id    string
	at    time.Time
	tries int
}

// Recover finishes orders left unsettled by calls that failed and pods that
// died, until ctx ends.
func (s *Service) Recover(ctx context.Context) {
	var own []retry
	look := time.Now().Add(leftFor + jitter()) // a pod that starts often takes a dead one's place
	timer := time.NewTimer(time.Until(look))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.failed:
			if !slices.ContainsFunc(own, func(r retry) bool { return r.id == id }) {
				own = append(own, retry{id: id, at: time.Now().Add(ownFirst)})
			}
		case <-timer.C:
			own = s.tryOwn(ctx, own)
			if !time.Now().Before(look) {
				if err := s.RecoverLeft(ctx, leftFor); err != nil && ctx.Err() == nil {
					s.log.Warn("looking for orders left unsettled", "error", err)
				}
				look = time.Now().Add(recoverEvery + jitter())
			}
		}
		next := look
		for _, r := range own {
			if r.at.Before(next) {
				next = r.at
			}
		}
		timer.Reset(time.Until(next))
	}
}

func jitter() time.Duration { return rand.N(recoverEvery / 2) }

// tryOwn tries those whose time has come, and returns those to be tried later.
func (s *Service) tryOwn(ctx context.Context, own []retry) (left []retry) {
	for _, r := range own {
		if time.Now().Before(r.at) || ctx.Err() != nil {
			left = append(left, r)
			continue
		}
		o, err := s.store.Order(ctx, r.id)
		if err == nil && (o == nil || o.Status.Settled() || s.finishLeft(ctx, o)) {
			continue
		}
		if r.tries++; r.tries < ownTries {
			r.at = time.Now().Add(ownFirst << r.tries)
			left = append(left, r)
		}
	}
	return left
}

// RecoverLeft finishes some orders that were left unsettled for so long. It
// claims them, so that any number of pods may look at once; one that cannot be
// finished now will be found again.
func (s *Service) RecoverLeft(ctx context.Context, left time.Duration) error {
	found, err := s.store.Claim(ctx, left, recoverLimit)
	for _, o := range found {
		s.finishLeft(ctx, o)
	}
	return err
}

// finishLeft tells whether the order is settled then.
func (s *Service) finishLeft(ctx context.Context, o *Order) bool {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	if err := s.run(ctx, o, ""); err != nil {
		f := fail.From(err)
		s.log.Warn("finishing an order left unsettled", "order", o.ID, "hop", f.Chain(Name), "error", err)
		return false
	}
	s.log.Info("finished an order left unsettled", "order", o.ID, "status", o.Status, "reason", o.Reason)
	return true
}
