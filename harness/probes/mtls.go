package probes

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"meshsim.dev/meshsim/results"
)

// Prometheus answers queries; the kube client's service proxy is one way to reach it.
type Prometheus interface {
	ServiceGet(ctx context.Context, namespace, service, path string, query url.Values) ([]byte, error)
}

// internalPort is where the shop's services call each other. The ports for the
// load balancer skip the proxy, and kubelet's probes come without identity by
// nature: neither is a call between services.
const internalPort = "9090"

// MTLS counts the calls between the shop's services over the window that ends
// now, by the receiving proxies' own counters in Prometheus. Calls that the
// policy refused are none: whoever tries without a certificate must not spoil the
// count of those who were served.
func MTLS(ctx context.Context, prom Prometheus, phase string, window time.Duration) (results.MTLS, error) {
	seconds := max(int(window.Seconds()), 10)
	counter := fmt.Sprintf(`inbound_http_authz_allow_total{namespace=%q,target_port=%q}`, shopNamespace, internalPort)
	// Not increase: that leaves out what a series begins with, which a single plain
	// call is, and it extrapolates.
	query := fmt.Sprintf(
		`sum by (deployment, tls, no_tls_reason) (max_over_time(%[1]s[%[2]ds]) - (%[1]s offset %[2]ds or max_over_time(%[1]s[%[2]ds]) * 0))`,
		counter, seconds)
	samples, err := instant(ctx, prom, query)
	if err != nil {
		return results.MTLS{}, fmt.Errorf("count calls by mTLS: %w", err)
	}
	seen := results.MTLS{Phase: phase, ByReason: map[string]int64{}, ByService: map[string]results.Calls{}}
	for _, s := range samples {
		// A plain call must not be rounded away.
		calls := int64(math.Ceil(s.value))
		service := seen.ByService[s.labels["deployment"]]
		if s.labels["tls"] == "true" {
			seen.TLS += calls
			service.TLS += calls
		} else {
			seen.Plain += calls
			service.Plain += calls
			if calls > 0 {
				seen.ByReason[s.labels["no_tls_reason"]] += calls
			}
		}
		seen.ByService[s.labels["deployment"]] = service
	}
	return seen, nil
}

type sample struct {
	labels map[string]string
	value  float64
	at     time.Time // that it was asked for, by Prometheus' clock
}

// instant runs one instant query. NaN and malformed values are errors: a
// number that cannot be read is not zero.
func instant(ctx context.Context, prom Prometheus, query string) ([]sample, error) {
	raw, err := prom.ServiceGet(ctx, "monitoring", "prometheus:9090", "/api/v1/query", url.Values{"query": {query}})
	if err != nil {
		return nil, fmt.Errorf("query Prometheus: %w", err)
	}
	return parseVector(raw)
}

func parseVector(raw []byte) ([]sample, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			ResultType string `json:"resultType"`
			Result     []struct {
				Metric map[string]string  `json:"metric"`
				Value  [2]json.RawMessage `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("read Prometheus's answer: %w", err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("Prometheus answered %q: %s", answer.Status, answer.Error)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("Prometheus answered a %q, not a vector", answer.Data.ResultType)
	}
	samples := make([]sample, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		var text string
		if err := json.Unmarshal(r.Value[1], &text); err != nil {
			return nil, fmt.Errorf("read a sample's value: %w", err)
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("sample %v has no finite value: %q", r.Metric, text)
		}
		var at float64
		if err := json.Unmarshal(r.Value[0], &at); err != nil {
			return nil, fmt.Errorf("read a sample's time: %w", err)
		}
		samples = append(samples, sample{labels: r.Metric, value: v, at: time.UnixMilli(int64(at * 1000)).UTC()})
	}
	return samples, nil
}
