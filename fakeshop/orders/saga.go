package orders

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// settle brings an order to its end, from wherever it stands, and answers for
// it. The client may go; the order is finished all the same.
func (s *Service) settle(ctx context.Context, o *Order, card string, created bool) (*Order, bool, error) {
	if !o.Status.Settled() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
		defer cancel()
		if err := s.run(ctx, o, card); err != nil {
			s.later(o.ID)
			return nil, false, err
		}
	}
	if o.Status == Cancelled {
		return nil, false, fail.New(codes.FailedPrecondition, string(o.Reason), "order %s: %s", o.ID, reasons[o.Reason])
	}
	return o, created, nil
}

var reasons = map[Reason]string{
	OutOfStock:         "not enough in stock",
	PaymentDeclined:    "the payment was declined",
	ReservationExpired: "it was held up until its stock was gone",
	PaymentUnresolved:  "the payment could not be resolved",
}

// rounds is how often an order begins again whose reservation ended before it
// was confirmed.
const rounds = 3

// run does the steps of an order that is not settled. A step that was done
// before answers as it did then, so that what follows is the same each time:
//
//	reserve: refused           → cancelled, out of stock
//	reserve: expired           → refund → cancelled, expired
//	reserve: released          → refund → cancelled, as the payment says
//	charge: declined → release → cancelled, declined
//	charge: taken              → confirmed
//
// Before anything is undone that another pod may just be about to confirm, it
// is decided in the order itself that it will be cancelled.
func (s *Service) run(ctx context.Context, o *Order, card string) error {
	for range rounds {
		if o.Cancelling != "" {
			return s.undo(ctx, o, o.Cancelling)
		}
		reserved, err := s.peers.Inventory.Reserve(ctx, &shopapi.ReserveRequest{OrderId: o.ID, Items: itemsToAPI(o.Items)})
		if err != nil {
			return err
		}
		switch reserved.GetState() {
		case shopapi.ReservationState_RESERVATION_STATE_RESERVED, shopapi.ReservationState_RESERVATION_STATE_COMMITTED:
		case shopapi.ReservationState_RESERVATION_STATE_REFUSED:
			s.log.Debug("out of stock", "order", o.ID, "products", strings.Join(reserved.GetShortOf(), " "))
			return s.finish(ctx, o, Outcome{Status: Cancelled, Reason: OutOfStock})
		case shopapi.ReservationState_RESERVATION_STATE_EXPIRED:
			return s.undo(ctx, o, ReservationExpired)
		case shopapi.ReservationState_RESERVATION_STATE_RELEASED:
			return s.undo(ctx, o, PaymentUnresolved)
		default:
			return fail.New(codes.Internal, "", "reserving for order %s: unexpected state %s", o.ID, reserved.GetState())
		}
		state, err := s.charge(ctx, o, card)
		if err != nil {
			return err
		}
		switch state {
		case shopapi.PaymentState_PAYMENT_STATE_TAKEN:
		case shopapi.PaymentState_PAYMENT_STATE_DECLINED:
			return s.release(ctx, o, PaymentDeclined)
		default: // refunded, or given up
			return s.undo(ctx, o, PaymentUnresolved)
		}
		err = s.finish(ctx, o, Outcome{Status: Confirmed, HeldUntil: heldUntil(reserved)})
		if err != nil || o.Status.Settled() {
			return err
		}
		// The stock was kept no longer, or somebody decided to cancel. That it is
		// paid must be seen whatever comes.
		if err := s.store.Advance(ctx, o.ID, Paid); err != nil {
			return err
		}
	}
	return fail.New(codes.Aborted, "", "order %s: its reservation ends before it can be confirmed", o.ID)
}

// heldUntil is far away for what is sold already.
func heldUntil(r *shopapi.ReserveResponse) time.Time {
	if r.GetState() == shopapi.ReservationState_RESERVATION_STATE_COMMITTED {
		return time.Now().Add(24 * time.Hour)
	}
	return time.UnixMicro(r.GetHeldUntilUnixUs())
}

// seenAfter is how long a payment takes before it is noted that the order is
// reserved. Most are settled sooner, and nobody sees them on their way.
const seenAfter = 30 * time.Millisecond

// charge takes the payment. When that takes long, or fails, it is noted that the
// order is reserved. A payment that cannot be resolved although the order is old
// is given up: UNSPECIFIED.
func (s *Service) charge(ctx context.Context, o *Order, card string) (shopapi.PaymentState, error) {
	noted := make(chan error, 1)
	note := func() { noted <- s.store.Advance(ctx, o.ID, Reserved) }
	slow := time.AfterFunc(seenAfter, note)
	state, err := s.pay(ctx, o, card)
	if slow.Stop() {
		if err == nil {
			return state, nil
		}
		note()
	}
	noteErr := <-noted
	if err == nil {
		return state, noteErr
	}
	if time.Since(o.CreatedAt) <= s.giveUp {
		return 0, err
	}
	s.log.Warn("giving up an order whose payment cannot be resolved", "order", o.ID, "error", err)
	return shopapi.PaymentState_PAYMENT_STATE_UNSPECIFIED, nil
}

func (s *Service) pay(ctx context.Context, o *Order, card string) (shopapi.PaymentState, error) {
	if card == "" {
		customer, err := s.peers.Customers.GetCustomer(ctx, &shopapi.GetCustomerRequest{Id: o.CustomerID})
		if err != nil {
			return 0, err
		}
		card = customer.GetCustomer().GetCardReference()
	}
	paid, err := s.peers.Payments.Charge(ctx, &shopapi.ChargeRequest{OrderId: o.ID, AmountCents: o.TotalCents, CardReference: card})
	if err == nil && paid.GetState() == shopapi.PaymentState_PAYMENT_STATE_UNSPECIFIED {
		err = fail.New(codes.Internal, "", "charging order %s: unexpected state %s", o.ID, paid.GetState())
	}
	return paid.GetState(), err
}

// undo cancels an order whose payment may have been taken: the decision first,
// then the money, then the stock.
func (s *Service) undo(ctx context.Context, o *Order, why Reason) error {
	if err := s.store.Decide(ctx, o, why); err != nil || o.Status.Settled() {
		return err
	}
	back, err := s.peers.Payments.Refund(ctx, &shopapi.RefundRequest{OrderId: o.ID})
	if err != nil {
		return err
	}
	why = o.Cancelling
	if back.GetState() == shopapi.PaymentState_PAYMENT_STATE_DECLINED {
		why = PaymentDeclined // which was all there was to it
	}
	return s.release(ctx, o, why)
}

// release cancels an order of which no money is kept.
func (s *Service) release(ctx context.Context, o *Order, why Reason) error {
	if _, err := s.peers.Inventory.Release(ctx, &shopapi.ReleaseRequest{OrderId: o.ID}); err != nil {
		return err
	}
	return s.finish(ctx, o, Outcome{Status: Cancelled, Reason: why})
}

// finish writes the end of an order, with what others are to be told of it.
func (s *Service) finish(ctx context.Context, o *Order, end Outcome) error {
	end.Event = eventOf(o, end)
	mine, err := s.store.Settle(ctx, o, end)
	if mine {
		s.teller.Tell(end.Event)
	}
	return err
}

func eventOf(o *Order, end Outcome) Event {
	word := string(end.Reason)
	if end.Status == Confirmed {
		word = string(Confirmed)
	}
	e := Event{Kind: "order." + word, OrderID: o.ID}
	e.ID = e.Kind + ":" + o.ID
	for _, item := range o.Items {
		e.ProductIDs = append(e.ProductIDs, item.ProductID)
	}
	return e
}

func itemsToAPI(items []Item) []*shopapi.Item {
	out := make([]*shopapi.Item, len(items))
	for i, item := range items {
		out[i] = &shopapi.Item{ProductId: item.ProductID, Quantity: int32(item.Quantity)}
	}
	return out
}
