// Package analytics is the service analytics-service: it keeps what happened
// in the shop, each event once.
package analytics

import (
	"context"
	"crypto/rand"
	"net/http"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "analytics-service"

const fieldLimit = 128 // bytes

// Event is something that happened.
type Event struct {
	ID      string `json:"eventId"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
}

// Store keeps events.
type Store interface {
	// Record drops an event whose id it knows.
	Record(ctx context.Context, e Event) error
}

// Service records.
type Service struct{ store Store }

// New makes the service.
func New(store Store) *Service { return &Service{store: store} }

// Record keeps an event and returns it with its id.
func (s *Service) Record(ctx context.Context, e Event) (Event, error) {
	switch {
	case e.Kind == "" || len(e.Kind) > fieldLimit || !word(e.Kind):
		return Event{}, fail.New(codes.InvalidArgument, "", "kind: wants 1 to %d letters, digits, \"_\", \".\" or \"-\"", fieldLimit)
	case len(e.Subject) > fieldLimit, len(e.ID) > fieldLimit:
		return Event{}, fail.New(codes.InvalidArgument, "", "eventId and subject have at most %d bytes", fieldLimit)
	}
	if e.ID == "" {
		e.ID = "ev-" + rand.Text()
	}
	return e, s.store.Record(ctx, e)
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
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.AnalyticsServiceServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedAnalyticsServiceServer
	s *Service
}

func (a api) Record(ctx context.Context, req *shopapi.RecordRequest) (*shopapi.RecordResponse, error) {
	kept, err := a.s.Record(ctx, Event{ID: req.GetEventId(), Kind: req.GetKind(), Subject: req.GetSubject()})
	if err != nil {
		return nil, err
	}
	return &shopapi.RecordResponse{EventId: kept.ID}, nil
}
