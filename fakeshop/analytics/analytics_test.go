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

func (f fakeStore) Record(_ context.Context, events []analytics.Event) (recorded int, err error) {
	for _, e := range events {
		if _, known := f.kept[e.ID]; !known {
			recorded++
		}
		f.kept[e.ID] = e
	}
	return recorded, nil
}

func (fakeStore) BoughtTogether(_ context.Context, most int) ([]analytics.Companions, error) {
	return []analytics.Companions{{ProductID: "p-1", With: []string{"p-2", "p-3"}[:most]}}, nil
}

func (f fakeStore) Counts(context.Context) (map[string]int64, error) {
	return map[string]int64{"page.view": int64(len(f.kept))}, nil
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
		{"an id too long", `{"eventId":"` + strings.Repeat("e", 129) + `","kind":"k"}`, 400, `at most 128 bytes`},
		{"too many products", `{"kind":"k","productIds":["` + strings.Repeat(`p","`, 20) + `p"]}`, 400, `productIds: wants at most 20`},
		{"a product without an id", `{"kind":"k","productIds":[""]}`, 400, `productIds: wants`},
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
	w := httptest.NewRecorder()
	rest.Edge{}.Handle(s.REST()["GET /api/analytics/counts"]).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, `{"events":{"page.view":3}}`+"\n", w.Body.String())
}

func TestManyEventsAreKeptOnce(t *testing.T) {
	g := analytics.New(fakeStore{kept: map[string]analytics.Event{}}).GRPC()
	batch := &shopapi.RecordAllRequest{Events: []*shopapi.RecordRequest{
		{EventId: "e-1", Kind: "order.confirmed", Subject: "o-1", ProductIds: []string{"p-1", "p-2"}}, {EventId: "e-2", Kind: "order.confirmed", Subject: "o-2"}}}
	for _, want := range []int32{2, 0} {
		out, err := g.RecordAll(t.Context(), batch)
		require.NoError(t, err)
		require.Equal(t, want, out.GetRecorded())
	}
	for name, events := range map[string][]*shopapi.RecordRequest{
		"none":          nil,
		"too many":      make([]*shopapi.RecordRequest, 501),
		"without an id": {{Kind: "k"}},
		"one wrong":     {{EventId: "e-3", Kind: "k"}, {EventId: "e-4"}},
	} {
		_, err := g.RecordAll(t.Context(), &shopapi.RecordAllRequest{Events: events})
		require.Equal(t, codes.InvalidArgument, fail.Code(err), name)
	}
	together, err := g.BoughtTogether(t.Context(), &shopapi.BoughtTogetherRequest{Most: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"p-2"}, together.GetProducts()[0].GetWith())
	_, err = g.BoughtTogether(t.Context(), &shopapi.BoughtTogetherRequest{})
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
}
