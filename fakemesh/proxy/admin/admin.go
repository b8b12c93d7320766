// Package admin is what the proxy says of itself by HTTP: metrics, health;
// and where it is told to end.
package admin

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options of the handler.
type Options struct {
	Metrics  prometheus.Gatherer
	Ready    func() bool
	Shutdown func() // asked for by POST /shutdown
	Drain    func() // asked for by POST /drain, when the pod is about to end
}

// maxScrapes bounds how many read the metrics at once.
const maxScrapes = 4

// New makes the handler. The limits of connections are its server's.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		DisableCompression:  true, // a scrape stays in the cluster, and packing costs more than sending
	}))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "live\n") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !o.Ready() {
			answer(w, http.StatusServiceUnavailable, "not ready\n")
			return
		}
		answer(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("POST /shutdown", fromLoopback(o.Shutdown))
	mux.HandleFunc("POST /drain", fromLoopback(o.Drain))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// fromLoopback lets only this pod's own containers call f.
func fromLoopback(f func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		addr, perr := netip.ParseAddr(host)
		if err != nil || perr != nil || !addr.Unmap().IsLoopback() {
			answer(w, http.StatusForbidden, "only from loopback\n")
			return
		}
		f()
		answer(w, http.StatusOK, "ok\n")
	}
}
