package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// families gathers metrics under their names.
type families map[string]*dto.MetricFamily

func (f families) add(name string, kind dto.MetricType, m *dto.Metric) {
	fam := f[name]
	if fam == nil {
		help := helps[name]
		fam = &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
		f[name] = fam
	}
	fam.Metric = append(fam.Metric, m)
}

func (f families) counter(name string, v uint64, labels []*dto.LabelPair) {
	value := float64(v)
	f.add(name, dto.MetricType_COUNTER, &dto.Metric{Label: labels, Counter: &dto.Counter{Value: &value}})
}

func (f families) gauge(name string, value float64, labels []*dto.LabelPair) {
	f.add(name, dto.MetricType_GAUGE, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &value}})
}

// Gather implements prometheus.Gatherer.
func (r *Registry) Gather() ([]*dto.MetricFamily, error) {
	out := families{}
	before := r.seconds() - int64(idleAfter.Seconds())
	never := func(*HTTP) bool { return false }
	r.http.each(before, never, func(f Flow, h *HTTP) { out.http(f, h) })
	r.tcp.each(before, func(t *TCP) bool { return t.open.Load() > 0 }, func(k tcpKey, t *TCP) { out.tcp(k, t) })
	r.authz.each(before, func(*Count) bool { return false }, func(k authzKey, c *Count) {
		out.counter(k.name, c.n.Load(), append(k.peer.labels(false), refLabels("route", k.route)...))
	})
	r.errors.each(before, func(*Count) bool { return false }, func(k errorKey, c *Count) {
		out.counter(k.direction+"_http_errors_total", c.n.Load(), pairs("error", k.kind))
	})
	r.routeBackends(out, before)
	r.process(out)
	names := slices.Sorted(maps.Keys(out))
	list := make([]*dto.MetricFamily, len(names))
	for i, name := range names {
		list[i] = out[name]
	}
	return list, nil
}

func (f families) http(flow Flow, h *HTTP) {
	labels := append(flow.Peer.labels(true), pairs("authority", flow.Authority)...)
	if flow.Direction == Inbound {
		labels = append(labels, refLabels("route", flow.Route)...)
	}
	labels = slices.Clip(labels)
	f.counter("request_total", h.requests.Load(), labels)
	h.mu.Lock()
	defer h.mu.Unlock()
	for res, n := range h.responses {
		class := "success"
		if res.Failure() {
			class = "failure"
		}
		f.counter("response_total", n, append(labels, pairs("status_code", strconv.Itoa(res.Status),
			"classification", class, "grpc_status", res.GRPCStatus, "error", res.Error)...))
	}
	for status, hist := range h.latency {
		m := hist.metric()
		m.Label = append(labels, pairs("status_code", strconv.Itoa(status))...)
		f.add("response_latency_ms", dto.MetricType_HISTOGRAM, m)
	}
}

func (h *histogram) metric() *dto.Metric {
	out := &dto.Histogram{SampleSum: ptr(h.sum)}
	var total uint64
	for i, bound := range bucketsMs {
		total += h.buckets[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{CumulativeCount: ptr(total), UpperBound: ptr(bound)})
	}
	out.SampleCount = ptr(total + h.buckets[len(bucketsMs)])
	return &dto.Metric{Histogram: out}
}

func (f families) tcp(k tcpKey, t *TCP) {
	labels := slices.Clip(append(k.Peer.labels(true), pairs("peer", k.side)...))
	f.counter("tcp_open_total", t.opened.Load(), labels)
	f.gauge("tcp_open_connections", float64(t.open.Load()), labels)
	f.counter("tcp_read_bytes_total", t.Read.Load(), labels)
	f.counter("tcp_write_bytes_total", t.Written.Load(), labels)
	t.mu.Lock()
	defer t.mu.Unlock()
	for errno, n := range t.closed {
		f.counter("tcp_close_total", n, append(labels, pairs("errno", errno)...))
	}
}

func (r *Registry) process(f families) {
	f.gauge("process_start_time_seconds", float64(r.info.Started.UnixMilli())/1000, nil)
	f.gauge("proxy_build_info", 1, pairs("version", r.info.Version, "vendor", "fakemesh"))
	if r.info.Refreshes != nil {
		f.counter("identity_cert_refresh_count", r.info.Refreshes(), nil)
	}
	if r.info.NotAfter != nil {
		if at := r.info.NotAfter(); !at.IsZero() {
			f.gauge("identity_cert_expiration_timestamp_seconds", float64(at.Unix()), nil)
		}
	}
	r.gaugesMu.Lock()
	defer r.gaugesMu.Unlock()
	for b, g := range r.gauges {
		labels := pairs("backend_namespace", b.Namespace, "backend_name", b.Service, "target_addr", b.Addr)
		for i, state := range []string{"ready", "pending"} {
			f.gauge("outbound_http_balancer_endpoints", load(&g[i]), slices.Concat(labels, pairs("endpoint_state", state)))
		}
	}
}

func load(v *atomic.Int64) float64 { return float64(v.Load()) }

// labels are those of the contract; empty ones are left out, which Prometheus
// takes for the same.
func (p Peer) labels(direction bool) []*dto.LabelPair {
	out := make([]*dto.LabelPair, 0, 24)
	if direction {
		out = append(out, pairs("direction", p.Direction)...)
	}
	if p.TargetIP != "" {
		port := strconv.Itoa(int(p.TargetPort))
		out = append(out, pairs("target_addr", p.TargetIP+":"+port, "target_ip", p.TargetIP, "target_port", port)...)
	}
	out = append(out, pairs("tls", p.TLS, "no_tls_reason", p.NoTLSReason, "client_id", p.ClientID, "server_id", p.ServerID)...)
	d := p.Dst
	out = append(out, pairs("dst_namespace", d.Namespace, "dst_service", d.Service, "dst_pod", d.Pod,
		"dst_serviceaccount", d.ServiceAccount)...)
	if d.OwnerKind != "" {
		out = append(out, pairs("dst_"+labelName(d.OwnerKind), d.OwnerName)...)
	}
	if p.Direction == Inbound {
		out = append(out, refLabels("srv", p.Srv)...)
		out = append(out, refLabels("authz", p.Authz)...)
	}
	return out
}

// labelName keeps what a label's name may hold.
func labelName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

func refLabels(prefix string, r policy.Ref) []*dto.LabelPair {
	return pairs(prefix+"_group", r.Group, prefix+"_kind", r.Kind, prefix+"_name", r.Name)
}

func pairs(kv ...string) []*dto.LabelPair {
	out := make([]*dto.LabelPair, 0, len(kv)/2)
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] != "" {
			out = append(out, &dto.LabelPair{Name: ptr(kv[i]), Value: ptr(strings.ToValidUTF8(kv[i+1], "?"))})
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }

var helps = map[string]string{
	"request_total":                              "Requests that came in.",
	"response_total":                             "Requests that ended.",
	"response_latency_ms":                        "Time from a request's head to the end of its response.",
	"tcp_open_total":                             "Connections that began.",
	"tcp_close_total":                            "Connections that ended.",
	"tcp_open_connections":                       "Connections that are open.",
	"tcp_read_bytes_total":                       "Bytes read from the peer.",
	"tcp_write_bytes_total":                      "Bytes written to the peer.",
	"inbound_http_authz_allow_total":             "Requests that the policy let in.",
	"inbound_http_authz_deny_total":              "Requests that the policy refused.",
	"inbound_http_route_not_found_total":         "Requests that matched no route of their server.",
	"inbound_tcp_authz_allow_total":              "Connections that the policy let in.",
	"inbound_tcp_authz_deny_total":               "Connections that the policy refused.",
	"inbound_tcp_authz_terminate_total":          "Connections that were cut off when the policy no longer let them in.",
	"inbound_http_errors_total":                  "Responses that the inbound side made up.",
	"outbound_http_errors_total":                 "Responses that the outbound side made up.",
	"outbound_http_route_backend_requests_total": "Requests that were sent to a backend of a route.",
	"outbound_http_balancer_endpoints":           "Endpoints of a balancer by state.",
	"identity_cert_expiration_timestamp_seconds": "When the certificate in use ends.",
	"identity_cert_refresh_count":                "Certificates obtained so far.",
	"proxy_build_info":                           "The proxy's version.",
	"process_start_time_seconds":                 "When the process began.",
}
