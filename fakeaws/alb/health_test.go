package alb

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHealthChangesAfterEnoughResultsInARow(t *testing.T) {
	spec := checkSpec{HealthyAt: 2, UnhealthyAt: 2}
	for _, c := range []struct {
		name    string
		from    health
		results string // + success, - failure
		want    health
	}{
		{"a new target needs one success", initial, "+", healthy},
		{"one failure leaves a new target new", initial, "-", initial},
		{"two failures make a new target unhealthy", initial, "--", unhealthy},
		{"a success between failures starts the count again", healthy, "-+-", healthy},
		{"two failures in a row make it unhealthy", healthy, "+--", unhealthy},
		{"one success is not enough to come back", unhealthy, "+", unhealthy},
		{"two successes are", unhealthy, "++", healthy},
		{"a failure between successes starts the count again", unhealthy, "+-+", unhealthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			var count tally
			is := c.from
			for _, r := range c.results {
				is = count.note(r == '+', is, spec)
			}
			require.Equal(t, c.want.String(), is.String())
		})
	}
}

func TestChecksTakeAnAnswerAsTheyAreToldTo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.UserAgent() != "ELB-HealthChecker/2.0":
			w.WriteHeader(418)
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.URL.RawQuery == "deep":
			w.WriteHeader(204)
		default:
			_, _ = io.WriteString(w, "ok")
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().(*net.TCPAddr)
	here := endpoint{IP: "127.0.0.1", Port: int32(addr.Port)}
	elsewhere := endpoint{IP: "127.0.0.1", Port: 1, CheckPort: int32(addr.Port)}
	closed := endpoint{IP: "127.0.0.1", Port: 1}
	for _, c := range []struct {
		name    string
		path    string
		success codes
		at      endpoint
		want    reason // none: well
	}{
		{"the code it wants", "/", "200", here, reason{}},
		{"a code out of a range", "/?deep", "200-299", here, reason{}},
		{"another code", "/?deep", "200", here, reason{"Target.ResponseCodeMismatch", "Health checks failed with these codes: [204]"}},
		{"a redirect is an answer and not followed", "/moved", "200", here, reason{"Target.ResponseCodeMismatch", "Health checks failed with these codes: [302]"}},
		{"a redirect may be what it wants", "/moved", "302", here, reason{}},
		{"no answer in time", "/slow", "200", here, reasonTimeout},
		{"nobody there", "/", "200", closed, reasonFailed},
		{"another port than that of requests", "/", "200", elsewhere, reason{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := newChecker(checkSpec{Path: c.path, Success: c.success, Timeout: 200 * time.Millisecond}, c.at).check(t.Context())
			if c.want == (reason{}) {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.Equal(t, c.want, reasonOf(unhealthy, err))
		})
	}
}
