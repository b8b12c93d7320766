package twin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// openPage serves one page on loopback until the test ends, and counts how often.
func openPage(t *testing.T, status int, body string) (url string, served *atomic.Int64) {
	t.Helper()
	served = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		if r.URL.Path != "/api/catalog/products/p-0001" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/api/catalog/products/p-0001", served
}

func TestPagesAreMeasuredLikeEchoes(t *testing.T) {
	plain, plainServed := openPage(t, http.StatusOK, `{"id":"p-0001","availability":{"stock":3}}`)
	meshed, meshedServed := openPage(t, http.StatusOK, `{"id":"p-0001"}`)
	got, err := Measure(t.Context(), Options{Plain: plain, Meshed: meshed, Triples: 20, Rate: 2000})
	require.NoError(t, err)
	require.Equal(t, []int{20, 20, 20}, []int{len(got.Plain), len(got.Meshed), len(got.PlainAgain)})
	require.Zero(t, got.PayloadBytes)
	require.Equal(t, int64(1+2*(warmUp+20)), plainServed.Load(), "once to see that it is there, then twice a triple")
	require.Equal(t, int64(1+warmUp+20), meshedServed.Load())
}

func TestAPageThatIsNotWholeIsNoMeasure(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		body, want string
	}{
		"a part is missing": {http.StatusOK, `{"id":"p-0001","missing":["availability","goes_with"]}`, "the page lacks its availability and its goes_with"},
		"no JSON":           {http.StatusOK, `<html>`, "the answer is no JSON"},
		"an error":          {http.StatusServiceUnavailable, `{}`, "503 Service Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := openPage(t, c.status, c.body)
			p := newPage(url)
			defer func() { require.NoError(t, p.close()) }()
			_, err := timed(t.Context(), p)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// openHasty serves pages of which some lack a part, by what lacks tells of their
// number from 1.
func openHasty(t *testing.T, lacks func(n int64) bool) string {
	t.Helper()
	var served atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if lacks(served.Add(1)) {
			fmt.Fprint(w, `{"missing":["goes_with"]}`)
			return
		}
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/"
}

func TestATripleWithAPageThatIsNotWholeIsMeasuredAgain(t *testing.T) {
	plain := openHasty(t, func(int64) bool { return false })
	meshed := openHasty(t, func(n int64) bool { return n > 2*warmUp && n%40 == 0 })
	got, err := Measure(t.Context(), Options{Plain: plain, Meshed: meshed, Triples: 100, Rate: 2000})
	require.NoError(t, err)
	require.Equal(t, 1, got.Lost)
	require.Equal(t, []int{100, 100, 100}, []int{len(got.Plain), len(got.Meshed), len(got.PlainAgain)})

	_, err = Measure(t.Context(), Options{Plain: plain, Meshed: openHasty(t, func(n int64) bool { return n > 2*warmUp && n%4 == 0 }), Triples: 100, Rate: 2000})
	require.ErrorContains(t, err, "the page lacks its goes_with", "too many")
}
