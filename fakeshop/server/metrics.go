package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(service, version string) *metrics {
	labels := prometheus.Labels{"service": service, "version": version}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shop_requests_total", Help: "Requests answered.",
			ConstLabels: labels,
		}, []string{"proto", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shop_request_duration_seconds", Help: "Time from a request's arrival to its answer.",
			ConstLabels: labels,
			Buckets:     []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		}, []string{"proto", "route"}),
	}
	m.registry.MustRegister(m.requests, m.seconds,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector())
	return m
}

func (m *metrics) observe(proto, route, code string, took time.Duration) {
	if route == "" {
		route = "none" // what outsiders make up is no label
	}
	m.requests.WithLabelValues(proto, route, code).Inc()
	m.seconds.WithLabelValues(proto, route).Observe(took.Seconds())
}
