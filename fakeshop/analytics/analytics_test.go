package analytics_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct{ kept map[string]analytics.Event }

func (f fakeStore) Record(_ context.Context, e analytics.Event) error {
	f.kept[e.ID] = e
	return nil
}

func TestEventsAreCheckedAndKept(t *testing.T) {
	store := fakeStore{kept: map[string]analytics.Event{}}
	s := analytics.New(store)
	cases := []struct {
		name, body string
		status     int
		answer     string
	}{
		{"with an id of its own", `{"eventId":"e-1","kind":"page.view","subject":"p-0001"}`, 202, `{"eventId":"e-1"}`},
		{"without one it gets one", `{"kind":"page.view"}`, 202, `{"eventId":"ev-`},
		{"without a kind", `{"subject":"p-0001"}`, 400, `kind: wants`},
		{"a kind of several words", `{"kind":"page view"}`, 400, `kind: wants`},
		{"a subject too long", `{"kind":"k","subject":"` + strings.Repeat("s", 129) + `"}`, 400, `at most 128 bytes`},
		{"an unknown field", `{"kind":"k","user":"u"}`, 400, `unknown field`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			rest.Edge{}.Handle(s.REST()["POST /api/analytics/events"]).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(c.body)))
			require.Equal(t, c.status, w.Code)
			require.Contains(t, w.Body.String(), c.answer)
		})
	}
	require.Equal(t, analytics.Event{ID: "e-1", Kind: "page.view", Subject: "p-0001"}, store.kept["e-1"])
	out, err := s.GRPC().Record(t.Context(), &shopapi.RecordRequest{EventId: "e-2", Kind: "order.confirmed", Subject: "o-1"})
	require.NoError(t, err)
	require.Equal(t, "e-2", out.GetEventId())
	_, err = s.GRPC().Record(t.Context(), &shopapi.RecordRequest{})
	require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
	require.Len(t, store.kept, 3)
}
