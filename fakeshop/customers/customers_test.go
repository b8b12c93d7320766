package customers_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/customers"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct{}

func (fakeStore) Customer(_ context.Context, id string) (customers.Customer, bool, error) {
	if id == "broken" {
		return customers.Customer{}, false, fail.At("postgres", "reading a customer", fail.New(codes.Unavailable, "", "gone"))
	}
	return customers.Customer{ID: id, Name: "Customer 1", Email: "c@shop.example", Segment: "audio", CardReference: "card-1"}, id == "c-0001", nil
}

func TestTheCardReferenceStaysInside(t *testing.T) {
	s := customers.New(fakeStore{})
	cases := map[string]struct {
		status int
		body   string
	}{
		"c-0001": {200, `{"id":"c-0001","name":"Customer 1","email":"c@shop.example","segment":"audio"}`},
		"c-9999": {404, `{"error":"there is no customer \"c-9999\"","code":"customer_not_found","pod":"pod"}`},
		"broken": {503, `{"error":"reading a customer: gone","code":"unavailable","hop":"customer-profile>postgres","pod":"pod"}`},
	}
	for id, c := range cases {
		t.Run(id, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetPathValue("id", id)
			w := httptest.NewRecorder()
			rest.Edge{Service: customers.Name, Pod: "pod"}.Handle(s.REST()["GET /api/customers/{id}"]).ServeHTTP(w, r)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.body+"\n", w.Body.String())
		})
	}
	out, err := s.GRPC().GetCustomer(t.Context(), &shopapi.GetCustomerRequest{Id: "c-0001"})
	require.NoError(t, err)
	require.Equal(t, "card-1", out.GetCustomer().GetCardReference())
	_, err = s.GRPC().GetCustomer(t.Context(), &shopapi.GetCustomerRequest{Id: "c-9999"})
	require.Equal(t, codes.NotFound, fail.From(err).Code)
}
