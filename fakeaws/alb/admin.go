package alb

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
)

// Admin serves /-/ready (200 once the cluster's objects are known) and
// /-/targets (every target group as JSON).
func (b *Balancer) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !b.watcher.synced.Load() {
			http.Error(w, "the cluster's objects are not known yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /-/targets", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(b.Groups()) // a reader who has gone needs no answer
	})
	return mux
}

// Group is a target group as /-/targets shows it.
type Group struct {
	Name       string     `json:"name"`  // as AWS's controller names it
	Group      string     `json:"group"` // namespace/ingress/service:port
	ARN        string     `json:"arn"`
	Listener   Listener   `json:"listener"`
	TargetType TargetType `json:"targetType"`
	Paths      []string   `json:"paths"`
	Targets    []Target   `json:"targets"`
}

// Target is one target and its health.
type Target struct {
	Address     string `json:"address"`
	Pod         string `json:"pod,omitempty"`
	Node        string `json:"node"`
	Zone        string `json:"zone,omitempty"`
	Health      string `json:"health"` // initial, healthy, unhealthy, draining or unused
	Reason      string `json:"reason,omitempty"`
	Description string `json:"description,omitempty"`
	Detail      string `json:"detail,omitempty"` // of its last failed check
	UnderWay    int64  `json:"underWay"`         // requests
}

// Groups lists the target groups that rules lead to, in the order of the rules.
func (b *Balancer) Groups() []Group {
	now := b.table.live.Load()
	out := []Group{}
	at := map[string]int{}
	for _, l := range []Listener{HTTP, GRPC} {
		for _, r := range now.rules[l] {
			i, seen := at[r.group]
			if !seen {
				i = len(out)
				at[r.group] = i
				out = append(out, now.groups[r.group].describe())
			}
			out[i].Paths = append(out[i].Paths, r.path)
		}
	}
	return out
}

func (g *group) describe() Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	spec := g.spec.Load()
	d := Group{Name: spec.Name, Group: spec.Key, ARN: g.arn, Listener: spec.Listener, TargetType: spec.Type, Targets: []Target{}}
	for _, t := range slices.Concat(g.targets, g.draining) {
		d.Targets = append(d.Targets, Target{
			Address: t.address, Pod: t.Pod, Node: t.Node, Zone: t.Zone, Health: t.state.String(),
			Reason: t.why.code, Description: t.why.description, Detail: t.detail, UnderWay: t.busy.Load(),
		})
	}
	return d
}
