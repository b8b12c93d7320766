// Package payments is the service payment-gateway: it takes one payment an
// order from a payment provider, and keeps no card reference, only a token made
// of it. The order's id is the key by which the provider knows a payment; so
// when an answer does not come, asking again tells what happened.
package payments

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
)

// Name is the service's name.
const Name = "payment-gateway"

// How long the provider is waited for, and how often it is asked. Together they
// stay within a caller's deadline for one hop.
const (
	providerWithin = 800 * time.Millisecond
	providerTries  = 2
)

// State is what became of a payment.
type State string

// The states.
const (
	Taken    State = "taken"
	Declined State = "declined"
	Refunded State = "refunded" // or never to be taken
)

// Payment is the payment of an order.
type Payment struct {
	OrderID     string
	AmountCents int64
	State       State
	CardToken   string
}

// Store keeps payments.
type Store interface {
	// Keep writes the payment unless the order has one already, and returns
	// the one that is kept. A refund replaces what was taken, and nothing else.
	Keep(ctx context.Context, p Payment) (Payment, error)
}

// Service takes payments.
type Service struct {
	store    Store
	provider Provider
	key      func() []byte
}

// New makes the service; key is the secret that card tokens are made with, asked
// for at each payment.
func New(store Store, provider Provider, key func() []byte) *Service {
	return &Service{store: store, provider: provider, key: key}
}

// Charge takes the payment of an order, once.
func (s *Service) Charge(ctx context.Context, orderID string, amountCents int64, card string) (State, error) {
	if orderID == "" || amountCents <= 0 || card == "" {
		return "", fail.New(codes.InvalidArgument, "", "a payment needs an order id, an amount and a card")
	}
	charge := Charge{Key: orderID, AmountCents: amountCents, CardToken: s.token(card)}
	done, err := s.ask(ctx, "charging", func(ctx context.Context) (Charge, error) { return s.provider.Charge(ctx, charge, card) })
	if err != nil {
		return "", err
	}
	kept, err := s.keep(ctx, done)
	if err != nil {
		return "", err
	}
	if kept.AmountCents != amountCents && kept.State != Refunded {
		return "", fail.New(codes.AlreadyExists, "payment_conflict", "order %s has a payment of another amount", orderID)
	}
	return kept.State, nil
}

// Refund gives back what was taken for an order, and sees to it that nothing
// will be.
func (s *Service) Refund(ctx context.Context, orderID string) (State, error) {
	if orderID == "" {
		return "", fail.New(codes.InvalidArgument, "", "a refund needs an order id")
	}
	done, err := s.ask(ctx, "voiding", func(ctx context.Context) (Charge, error) { return s.provider.Void(ctx, orderID) })
	if err != nil {
		return "", err
	}
	kept, err := s.keep(ctx, done)
	return kept.State, err
}

var kept = map[ChargeState]State{Captured: Taken, Refused: Declined, Voided: Refunded}

func (s *Service) keep(ctx context.Context, c Charge) (Payment, error) {
	return s.store.Keep(ctx, Payment{OrderID: c.Key, AmountCents: c.AmountCents, State: kept[c.State], CardToken: c.CardToken})
}

// providerHop is the provider's name in the hop chain of a failure.
const providerHop = "payment-provider"

// ask asks the provider, and asks again by the same key when no answer comes.
func (s *Service) ask(ctx context.Context, doing string, call func(context.Context) (Charge, error)) (Charge, error) {
	began, tries := time.Now(), 0
	var done Charge
	var err error
	for tries < providerTries && ctx.Err() == nil {
		tries++
		if done, err = s.askOnce(ctx, call); err == nil {
			break
		}
	}
	if err == nil && tries == 0 {
		err = ctx.Err()
	}
	hops.From(ctx).Add(hops.Call{Service: providerHop, Began: began, Took: time.Since(began), Code: fail.Code(err), Attempts: tries})
	if err == nil {
		return done, nil
	}
	return Charge{}, fail.At(providerHop, doing, &fail.Error{Code: codes.Unavailable, Reason: "payment_pending", Message: err.Error(), Err: err})
}

func (s *Service) askOnce(ctx context.Context, call func(context.Context) (Charge, error)) (Charge, error) {
	ctx, cancel := context.WithTimeout(ctx, providerWithin)
	defer cancel()
	return call(ctx)
}

// token stands for a card without telling which one it is.
func (s *Service) token(card string) string {
	mac := hmac.New(sha256.New, s.key())
	mac.Write([]byte(card))
	return "tok_" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.PaymentGatewayServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedPaymentGatewayServer
	s *Service
}

var states = map[State]shopapi.PaymentState{
	Taken:    shopapi.PaymentState_PAYMENT_STATE_TAKEN,
	Declined: shopapi.PaymentState_PAYMENT_STATE_DECLINED,
	Refunded: shopapi.PaymentState_PAYMENT_STATE_REFUNDED,
}

func (a api) Charge(ctx context.Context, req *shopapi.ChargeRequest) (*shopapi.ChargeResponse, error) {
	state, err := a.s.Charge(ctx, req.GetOrderId(), req.GetAmountCents(), req.GetCardReference())
	if err != nil {
		return nil, err
	}
	return &shopapi.ChargeResponse{State: states[state]}, nil
}

func (a api) Refund(ctx context.Context, req *shopapi.RefundRequest) (*shopapi.RefundResponse, error) {
	state, err := a.s.Refund(ctx, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	return &shopapi.RefundResponse{State: states[state]}, nil
}
