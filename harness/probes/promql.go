package probes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// Ask puts a budget's own query to the run's Prometheus. $window in it stands
// for the phase's length so far.
func Ask(ctx context.Context, prom Prometheus, query, phase string, window time.Duration) (results.Answer, error) {
	seconds := max(int(window.Seconds()), 10)
	asked := strings.ReplaceAll(query, "$window", fmt.Sprintf("%ds", seconds))
	raw, err := prom.ServiceGet(ctx, "monitoring", "prometheus:9090", "/api/v1/query", url.Values{"query": {asked}})
	if err != nil {
		return results.Answer{}, fmt.Errorf("query Prometheus: %w", err)
	}
	samples, err := parseAnswer(raw)
	return results.Answer{Query: query, Asked: asked, Phase: phase, Samples: samples}, err
}

// parseAnswer reads a vector or a scalar. Values stay as Prometheus wrote them.
func parseAnswer(raw []byte) ([]results.Sample, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("read Prometheus's answer: %w", err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("Prometheus answered %q: %s", answer.Status, answer.Error)
	}
	type point [2]any // instant and value
	var series []struct {
		Metric map[string]string `json:"metric"`
		Value  point             `json:"value"`
	}
	samples := []results.Sample{}
	add := func(labels map[string]string, p point) error {
		value, ok := p[1].(string)
		if !ok {
			return fmt.Errorf("sample %v has no value", labels)
		}
		samples = append(samples, results.Sample{Labels: labels, Value: value})
		return nil
	}
	switch answer.Data.ResultType {
	case "scalar":
		var p point
		if err := json.Unmarshal(answer.Data.Result, &p); err != nil {
			return nil, fmt.Errorf("read a scalar: %w", err)
		}
		if err := add(nil, p); err != nil {
			return nil, err
		}
		return samples, nil
	case "vector":
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return nil, fmt.Errorf("read a vector: %w", err)
		}
	default:
		return nil, fmt.Errorf("Prometheus answered a %q, neither a vector nor a scalar", answer.Data.ResultType)
	}
	for _, s := range series {
		if err := add(s.Metric, s.Value); err != nil {
			return nil, err
		}
	}
	return samples, nil
}
