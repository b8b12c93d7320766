// Package payments is the service payment-gateway: it takes one payment an
// order, and keeps no card reference, only a token made of it.
package payments

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "payment-gateway"

// declinedPrefix begins the references of cards that no bank pays for.
const declinedPrefix = "declined-"

// State is what became of a payment.
type State string

// The states.
const (
	Taken    State = "taken"
	Declined State = "declined"
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
	// the one that is kept.
	Keep(ctx context.Context, p Payment) (Payment, error)
}

// Service takes payments.
type Service struct {
	store Store
	key   func() []byte
}

// New makes the service; key is the secret that card tokens are made with, asked
// for at each payment.
func New(store Store, key func() []byte) *Service { return &Service{store: store, key: key} }

// Charge takes the payment of an order, once.
func (s *Service) Charge(ctx context.Context, orderID string, amountCents int64, card string) (State, error) {
	if orderID == "" || amountCents <= 0 || card == "" {
		return "", fail.New(codes.InvalidArgument, "", "a payment needs an order id, an amount and a card")
	}
	state := Taken
	if strings.HasPrefix(card, declinedPrefix) {
		state = Declined
	}
	kept, err := s.store.Keep(ctx, Payment{OrderID: orderID, AmountCents: amountCents, State: state, CardToken: s.token(card)})
	if err != nil {
		return "", err
	}
	if kept.AmountCents != amountCents {
		return "", fail.New(codes.AlreadyExists, "payment_conflict", "order %s has a payment of another amount", orderID)
	}
	return kept.State, nil
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

func (a api) Charge(ctx context.Context, req *shopapi.ChargeRequest) (*shopapi.ChargeResponse, error) {
	state, err := a.s.Charge(ctx, req.GetOrderId(), req.GetAmountCents(), req.GetCardReference())
	if err != nil {
		return nil, err
	}
	if state == Declined {
		return &shopapi.ChargeResponse{State: shopapi.PaymentState_PAYMENT_STATE_DECLINED}, nil
	}
	return &shopapi.ChargeResponse{State: shopapi.PaymentState_PAYMENT_STATE_TAKEN}, nil
}
