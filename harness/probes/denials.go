package probes

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/stack"
)

// Denials reads how often the proxies of each of the shop's services have
// refused calls between services by policy, from Prometheus.
func Denials(ctx context.Context, prom Prometheus) (map[string]float64, error) {
	query := fmt.Sprintf(`sum by (deployment) ({__name__=~"inbound_http_authz_deny_total|inbound_tcp_authz_deny_total",namespace=%q,target_port=%q})`, shopNamespace, internalPort)
	samples, err := instant(ctx, prom, query)
	if err != nil {
		return nil, fmt.Errorf("count denials: %w", err)
	}
	counts := map[string]float64{}
	for _, s := range samples {
		counts[s.labels["deployment"]] = s.value
	}
	return counts, nil
}

// DenialsSince returns by how much each service's count has grown. It waits until
// each has grown by as much as is wanted, but no longer than patience: Prometheus
// lags behind the proxies.
func DenialsSince(ctx context.Context, prom Prometheus, before map[string]float64, wanted map[string]int, patience, every time.Duration) (map[string]int, error) {
	for begun := time.Now(); ; {
		now, err := Denials(ctx, prom)
		if err != nil {
			return nil, err
		}
		grown, enough := map[string]int{}, true
		for name, n := range now {
			grown[name] = int(math.Round(n - before[name]))
		}
		for name, n := range wanted {
			enough = enough && grown[name] >= n
		}
		if enough || time.Since(begun) > patience {
			return grown, nil
		}
		if err := kube.Sleep(ctx, every); err != nil {
			return nil, err
		}
	}
}

// AlertWatch looks when the alert on unauthorised calls fires, by callee.
type AlertWatch struct {
	prom Prometheus
	now  func() time.Time

	mu    sync.Mutex
	fired map[string]time.Time // zero for one that was there before
}

// NewAlertWatch makes one that has seen nothing yet.
func NewAlertWatch(prom Prometheus, now func() time.Time) *AlertWatch {
	return &AlertWatch{prom: prom, now: now, fired: map[string]time.Time{}}
}

func (w *AlertWatch) firing(ctx context.Context) ([]string, error) {
	samples, err := instant(ctx, w.prom, fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",namespace=%q}`, stack.AlertUnauthorised, shopNamespace))
	if err != nil {
		return nil, fmt.Errorf("look for alerts: %w", err)
	}
	var names []string
	for _, s := range samples {
		names = append(names, s.labels["deployment"])
	}
	return names, nil
}

// AwaitQuiet waits until no alert of what came before is left. Those that stay
// longer than patience say nothing any more.
func (w *AlertWatch) AwaitQuiet(ctx context.Context, patience, every time.Duration) error {
	for begun := w.now(); ; {
		names, err := w.firing(ctx)
		if err != nil {
			return err
		}
		if len(names) == 0 || w.now().Sub(begun) > patience {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, name := range names {
				w.fired[name] = time.Time{}
			}
			return nil
		}
		if err := kube.Sleep(ctx, every); err != nil {
			return err
		}
	}
}

// Watch notes when alerts fire, until ctx ends. A look that fails is made again.
func (w *AlertWatch) Watch(ctx context.Context, every time.Duration) {
	for {
		if names, err := w.firing(ctx); err == nil {
			w.note(names)
		}
		if kube.Sleep(ctx, every) != nil {
			return
		}
	}
}

func (w *AlertWatch) note(names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if _, ok := w.fired[name]; !ok {
			w.fired[name] = w.now()
		}
	}
}

// Await waits until Watch has seen an alert on each of the callees, but no
// longer than patience.
func (w *AlertWatch) Await(ctx context.Context, callees []string, patience, every time.Duration) error {
	for begun := w.now(); ; {
		fired, all := w.Fired(), true
		for _, name := range callees {
			_, ok := fired[name]
			all = all && ok
		}
		if all || w.now().Sub(begun) > patience {
			return nil
		}
		if err := kube.Sleep(ctx, every); err != nil {
			return err
		}
	}
}

// Fired returns when the alert on each callee was first seen, zero for one that
// was there before.
func (w *AlertWatch) Fired() map[string]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.fired)
}
