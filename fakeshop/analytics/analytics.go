// Package analytics is the service analytics-service: it keeps what happened
// in the shop, each event once however often it is told, and counts from it what
// is bought together.
package analytics

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "analytics-service"

const (
	fieldLimit    = 128 // bytes
	productsLimit = 20
	batchLimit    = 500
	mostLimit     = 50
)

// Event is something that happened.
type Event struct {
	ID         string   `json:"eventId"`
	Kind       string   `json:"kind"`
	Subject    string   `json:"subject"`
	ProductIDs []string `json:"productIds"`
}

// Companions are what is bought together with a product, the most frequent
// first.
type Companions struct {
	ProductID string
	With      []string
}

// Store keeps events.
type Store interface {
	// Record drops events whose ids it knows, and returns how many were new. Of
	// a new confirmed order it counts which products were bought together.
	Record(ctx context.Context, events []Event) (recorded int, err error)
	// BoughtTogether returns the companions of each product, at most so many.
	BoughtTogether(ctx context.Context, most int) ([]Companions, error)
	// Counts returns how many events there are of each kind.
	Counts(ctx context.Context) (map[string]int64, error)
}

// Service records.
type Service struct{ store Store }

// New makes the service.
func New(store Store) *Service { return &Service{store: store} }

// Record keeps an event and returns it with its id.
func (s *Service) Record(ctx context.Context, e Event) (Event, error) {
	if e.ID == "" {
		e.ID = "ev-" + rand.Text()
	}
	if err := check(e); err != nil {
		return Event{}, err
	}
	_, err := s.store.Record(ctx, []Event{e})
	return e, err
}

// RecordAll keeps events that have ids, and returns how many were new.
func (s *Service) RecordAll(ctx context.Context, events []Event) (recorded int, err error) {
	if len(events) == 0 || len(events) > batchLimit {
		return 0, fail.New(codes.InvalidArgument, "", "%d events at once: wants 1 to %d", len(events), batchLimit)
	}
	for _, e := range events {
		if e.ID == "" {
			return 0, fail.New(codes.InvalidArgument, "", "every event needs an id")
		}
		if err := check(e); err != nil {
			return 0, err
		}
	}
	return s.store.Record(ctx, events)
}

func check(e Event) error {
	switch {
	case e.Kind == "" || len(e.Kind) > fieldLimit || !word(e.Kind):
		return fail.New(codes.InvalidArgument, "", "kind: wants 1 to %d letters, digits, \"_\", \".\" or \"-\"", fieldLimit)
	case len(e.Subject) > fieldLimit, len(e.ID) > fieldLimit:
		return fail.New(codes.InvalidArgument, "", "eventId and subject have at most %d bytes", fieldLimit)
	case len(e.ProductIDs) > productsLimit, slices.ContainsFunc(e.ProductIDs, func(id string) bool { return id == "" || len(id) > fieldLimit }):
		return fail.New(codes.InvalidArgument, "", "productIds: wants at most %d ids", productsLimit)
	}
	return nil
}

func word(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"POST /api/analytics/events": func(r *http.Request) (int, any, error) {
			var e Event
			if err := rest.Decode(r, &e); err != nil {
				return 0, nil, err
			}
			kept, err := s.Record(r.Context(), e)
			return http.StatusAccepted, map[string]string{"eventId": kept.ID}, err
		},
		"GET /api/analytics/counts": func(r *http.Request) (int, any, error) {
			counts, err := s.store.Counts(r.Context())
			return http.StatusOK, map[string]any{"events": counts}, err
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.AnalyticsServiceServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedAnalyticsServiceServer
	s *Service
}

func fromAPI(req *shopapi.RecordRequest) Event {
	return Event{ID: req.GetEventId(), Kind: req.GetKind(), Subject: req.GetSubject(), ProductIDs: req.GetProductIds()}
}

func (a api) Record(ctx context.Context, req *shopapi.RecordRequest) (*shopapi.RecordResponse, error) {
	kept, err := a.s.Record(ctx, fromAPI(req))
	if err != nil {
		return nil, err
	}
	return &shopapi.RecordResponse{EventId: kept.ID}, nil
}

func (a api) RecordAll(ctx context.Context, req *shopapi.RecordAllRequest) (*shopapi.RecordAllResponse, error) {
	events := make([]Event, len(req.GetEvents()))
	for i, e := range req.GetEvents() {
		events[i] = fromAPI(e)
	}
	recorded, err := a.s.RecordAll(ctx, events)
	if err != nil {
		return nil, err
	}
	return &shopapi.RecordAllResponse{Recorded: int32(recorded)}, nil
}

func (a api) BoughtTogether(ctx context.Context, req *shopapi.BoughtTogetherRequest) (*shopapi.BoughtTogetherResponse, error) {
	if req.GetMost() < 1 || req.GetMost() > mostLimit {
		return nil, fail.New(codes.InvalidArgument, "", "most: wants 1 to %d", mostLimit)
	}
	all, err := a.s.store.BoughtTogether(ctx, int(req.GetMost()))
	if err != nil {
		return nil, err
	}
	out := &shopapi.BoughtTogetherResponse{}
	for _, c := range all {
		out.Products = append(out.Products, &shopapi.Companions{ProductId: c.ProductID, With: c.With})
	}
	return out, nil
}
