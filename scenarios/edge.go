package scenarios

import "go.yaml.in/yaml/v3"

// Edge is how the load balancer treats its targets, in the terms of AWS's.
type Edge struct {
	Targets                    string // ip: pods by their own addresses; instance: nodes by NodePort; default ip
	DeregistrationDelaySeconds int    // how long a target's requests may go on once it gets no new ones; default 300
	SlowStartSeconds           int    // how long a new target's share grows; default 0: it gets all of it at once
	Algorithm                  string // round_robin | least_outstanding_requests; default round_robin
	IdleTimeoutSeconds         int    // of connections and of answers; default 60
}

func defaultEdge() Edge {
	return Edge{Targets: "ip", DeregistrationDelaySeconds: 300, Algorithm: "round_robin", IdleTimeoutSeconds: 60}
}

func (r *reader) edge(n *yaml.Node, e *Edge) {
	r.mapping(n, "edge", map[string]field{
		"targets":                    r.oneOf("targets", []string{"ip", "instance"}, &e.Targets),
		"deregistrationDelaySeconds": r.integer("deregistrationDelaySeconds", 0, 3600, &e.DeregistrationDelaySeconds),
		"slowStartSeconds":           r.integer("slowStartSeconds", 0, 900, &e.SlowStartSeconds),
		"algorithm":                  r.oneOf("algorithm", []string{"round_robin", "least_outstanding_requests"}, &e.Algorithm),
		"idleTimeoutSeconds":         r.integer("idleTimeoutSeconds", 1, 4000, &e.IdleTimeoutSeconds),
	})
	if e.SlowStartSeconds > 0 && e.Algorithm == "least_outstanding_requests" {
		r.fail(n, "slow start does not go with least_outstanding_requests, as at AWS")
	}
}
