package orders

import "context"

// RecoverNow finishes every pending order at once, however fresh.
func RecoverNow(ctx context.Context, s *Service) {
	for {
		left, err := s.store.Claim(ctx, 0, recoverLimit)
		if err != nil || len(left) == 0 {
			return
		}
		for _, o := range left {
			s.finishLeft(ctx, o)
		}
	}
}
