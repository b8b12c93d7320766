package relay

import (
	"net/http"

	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// Redirect answers with another place, when the filters say so.
func Redirect(w http.ResponseWriter, r *http.Request, f *policy.Filters, matched int) (metrics.Response, bool) {
	location, status, redirected := f.Redirect(r, matched)
	if !redirected {
		return metrics.Response{}, false
	}
	h := w.Header()
	h.Set("Location", location)
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
	return metrics.Response{Status: status}, true
}

// Filtered is w with the filters' changes to the response.
func Filtered(w http.ResponseWriter, f *policy.Filters) http.ResponseWriter {
	if !f.ChangesResponse() {
		return w
	}
	return &filtered{ResponseWriter: w, filters: f}
}

type filtered struct {
	http.ResponseWriter
	filters *policy.Filters
	done    bool
}

// WriteHeader changes the headers just before they are sent.
func (f *filtered) WriteHeader(status int) {
	if !f.done {
		f.filters.Response(f.Header())
		f.done = true
	}
	f.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController what it looks for.
func (f *filtered) Unwrap() http.ResponseWriter { return f.ResponseWriter }
