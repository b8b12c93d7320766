package policy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

func filters(t *testing.T, f *meshapi.Filters) *Filters {
	t.Helper()
	c, err := compileFilters(f)
	require.NoError(t, err)
	return c
}

func TestHeadersAreSetAddedAndRemoved(t *testing.T) {
	f := filters(t, &meshapi.Filters{Request: &meshapi.HeaderChange{
		Set:    []*meshapi.Header{{Name: "x-set", Value: "new"}},
		Add:    []*meshapi.Header{{Name: "x-add", Value: "two"}},
		Remove: []string{"x-gone"},
	}})
	h := http.Header{"X-Set": {"old", "older"}, "X-Add": {"one"}, "X-Gone": {"x"}, "X-Kept": {"y"}}
	f.Request(h)
	require.Equal(t, http.Header{"X-Set": {"new"}, "X-Add": {"one", "two"}, "X-Kept": {"y"}}, h)
	require.False(t, f.ChangesResponse())
	f.Response(h)
	require.Len(t, h, 3)
	var none *Filters
	none.Request(h)
	require.Len(t, h, 3)
}

func TestRedirections(t *testing.T) {
	for name, tc := range map[string]struct {
		redirect *meshapi.Redirect
		matched  int
		location string
		status   int
	}{
		"to another scheme":                   {&meshapi.Redirect{Scheme: "https"}, 0, "https://shop.example/orders/1?x=1", 302},
		"to another name":                     {&meshapi.Redirect{Hostname: "new.example"}, 0, "http://new.example:8080/orders/1?x=1", 302},
		"to another port for good":            {&meshapi.Redirect{Port: 9000, Status: 301}, 0, "http://shop.example:9000/orders/1?x=1", 301},
		"to the port that the scheme tells":   {&meshapi.Redirect{Scheme: "https", Port: 443}, 0, "https://shop.example/orders/1?x=1", 302},
		"to another path":                     {&meshapi.Redirect{Path: "/new"}, 0, "http://shop.example:8080/new?x=1", 302},
		"to another prefix":                   {&meshapi.Redirect{Path: "/o/", ReplacePrefix: true}, len("/orders"), "http://shop.example:8080/o/1?x=1", 302},
		"to no prefix":                        {&meshapi.Redirect{Path: "/", ReplacePrefix: true}, len("/orders"), "http://shop.example:8080/1?x=1", 302},
		"to where it is, which would not end": {&meshapi.Redirect{Hostname: "shop.example"}, 0, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/orders/1?x=1", nil)
			r.Host = "shop.example:8080"
			location, status, ok := filters(t, &meshapi.Filters{Redirect: tc.redirect}).Redirect(r, tc.matched)
			require.Equal(t, tc.status != 0, ok)
			require.Equal(t, tc.location, location)
			require.Equal(t, tc.status, status)
		})
	}
	_, _, ok := (*Filters)(nil).Redirect(httptest.NewRequest("GET", "/", nil), 0)
	require.False(t, ok)
}

func TestFiltersThatCannotBeAreRefused(t *testing.T) {
	for _, f := range []*meshapi.Filters{
		{Request: &meshapi.HeaderChange{Set: []*meshapi.Header{{Name: "a b", Value: "x"}}}},
		{Response: &meshapi.HeaderChange{Add: []*meshapi.Header{{Name: "x", Value: "a\nb"}}}},
		{Redirect: &meshapi.Redirect{Path: "x"}},
	} {
		require.Error(t, CheckFilters(f), f)
	}
	require.NoError(t, CheckFilters(&meshapi.Filters{}))
}
