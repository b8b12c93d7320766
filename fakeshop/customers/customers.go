// Package customers is the service customer-profile: who buys in the shop.
package customers

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "customer-profile"

// Customer is someone who buys.
type Customer struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	Email         string `json:"email"`
	Segment       string `json:"segment"` // the category liked best
	CardReference string `json:"-"`       // for the payment gateway alone
}

// Store reads customers.
type Store interface {
	// Customer answers false for an unknown id.
	Customer(ctx context.Context, id string) (Customer, bool, error)
}

// Service answers who a customer is.
type Service struct{ store Store }

// New makes the service.
func New(store Store) *Service { return &Service{store: store} }

// Customer returns the customer with the id.
func (s *Service) Customer(ctx context.Context, id string) (Customer, error) {
	c, known, err := s.store.Customer(ctx, id)
	if err != nil {
		return Customer{}, err
	}
	if !known {
		return Customer{}, fail.New(codes.NotFound, "customer_not_found", "there is no customer %q", id)
	}
	return c, nil
}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"GET /api/customers/{id}": func(r *http.Request) (int, any, error) {
			c, err := s.Customer(r.Context(), r.PathValue("id"))
			return http.StatusOK, c, err
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.CustomerProfileServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedCustomerProfileServer
	s *Service
}

func (a api) GetCustomer(ctx context.Context, req *shopapi.GetCustomerRequest) (*shopapi.GetCustomerResponse, error) {
	c, err := a.s.Customer(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetCustomerResponse{Customer: &shopapi.Customer{
		Id: c.ID, Name: c.Name, Email: c.Email, Segment: c.Segment, CardReference: c.CardReference,
	}}, nil
}
