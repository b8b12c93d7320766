package probes

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
)

// Denial is a callee, and who was denied there: the client's identity, "" where
// it showed none.
type Denial struct{ Callee, Client string }

// Denials reads how often the proxies of each of the shop's services have
// refused calls between services by policy, and whose, from Prometheus. The
// counters are those of the inbound side.
func Denials(ctx context.Context, prom Prometheus) (map[Denial]float64, error) {
	query := fmt.Sprintf(`sum by (deployment, client_id) ({__name__=~"inbound_http_authz_deny_total|inbound_tcp_authz_deny_total",namespace=%q,target_port=%q})`, shopNamespace, internalPort)
	samples, err := instant(ctx, prom, query)
	if err != nil {
		return nil, fmt.Errorf("count denials: %w", err)
	}
	counts := map[Denial]float64{}
	for _, s := range samples {
		counts[Denial{s.labels["deployment"], s.labels["client_id"]}] = s.value
	}
	return counts, nil
}

// DenialsSince returns by how much each count has grown. It waits until each has
// grown by as much as is wanted, but no longer than patience: Prometheus lags
// behind the proxies.
func DenialsSince(ctx context.Context, prom Prometheus, before map[Denial]float64, wanted map[Denial]int, patience, every time.Duration) (map[Denial]int, error) {
	for begun := time.Now(); ; {
		now, err := Denials(ctx, prom)
		if err != nil {
			return nil, err
		}
		grown, enough := map[Denial]int{}, true
		for of, n := range now {
			grown[of] = int(math.Round(n - before[of]))
		}
		for of, n := range wanted {
			enough = enough && grown[of] >= n
		}
		if enough || time.Since(begun) > patience {
			return grown, nil
		}
		if err := pause.For(ctx, every); err != nil {
			return nil, err
		}
	}
}

// AlertWatch looks when the alert on unauthorised calls fires, by callee. Its
// times are Prometheus' own: that is on a node, as those are who try.
type AlertWatch struct {
	prom Prometheus

	mu    sync.Mutex
	fired map[string]time.Time // zero for one that was there before
}

// NewAlertWatch makes one that has seen nothing yet.
func NewAlertWatch(prom Prometheus) *AlertWatch {
	return &AlertWatch{prom: prom, fired: map[string]time.Time{}}
}

// firing is each callee whose alert fires, and when it was seen to.
func (w *AlertWatch) firing(ctx context.Context) (map[string]time.Time, error) {
	samples, err := instant(ctx, w.prom, fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",namespace=%q}`, stack.AlertUnauthorised, shopNamespace))
	if err != nil {
		return nil, fmt.Errorf("look for alerts: %w", err)
	}
	seen := map[string]time.Time{}
	for _, s := range samples {
		seen[s.labels["deployment"]] = s.at
	}
	return seen, nil
}

// AwaitQuiet waits until no alert of what came before is left. Those that stay
// longer than patience say nothing any more.
func (w *AlertWatch) AwaitQuiet(ctx context.Context, patience, every time.Duration) error {
	for begun := time.Now(); ; {
		seen, err := w.firing(ctx)
		if err != nil {
			return err
		}
		if len(seen) == 0 || time.Since(begun) > patience {
			w.mu.Lock()
			defer w.mu.Unlock()
			for name := range seen {
				w.fired[name] = time.Time{}
			}
			return nil
		}
		if err := pause.For(ctx, every); err != nil {
			return err
		}
	}
}

// Watch notes when alerts fire, until ctx ends. A look that fails is made again.
func (w *AlertWatch) Watch(ctx context.Context, every time.Duration) {
	for {
		if seen, err := w.firing(ctx); err == nil {
			w.note(seen)
		}
		if pause.For(ctx, every) != nil {
			return
		}
	}
}

func (w *AlertWatch) note(seen map[string]time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, at := range seen {
		if _, ok := w.fired[name]; !ok {
			w.fired[name] = at
		}
	}
}

// Await waits until Watch has seen an alert on each of the callees, but no
// longer than patience.
func (w *AlertWatch) Await(ctx context.Context, callees []string, patience, every time.Duration) error {
	for begun := time.Now(); ; {
		fired, all := w.Fired(), true
		for _, name := range callees {
			_, ok := fired[name]
			all = all && ok
		}
		if all || time.Since(begun) > patience {
			return nil
		}
		if err := pause.For(ctx, every); err != nil {
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
