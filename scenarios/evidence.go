package scenarios

import "go.yaml.in/yaml/v3"

// Evidence is what is looked at beside the traffic, for as long as it flows.
type Evidence struct {
	Wire       bool // what crosses the nodes' networks between pods, by captures on the nodes
	Identities bool // the certificate that each proxy shows, after each phase
}

func (r *reader) evidence(n *yaml.Node, e *Evidence) {
	r.mapping(n, "evidence", map[string]field{
		"wire":       r.boolean("wire", &e.Wire),
		"identities": r.boolean("identities", &e.Identities),
	})
}
