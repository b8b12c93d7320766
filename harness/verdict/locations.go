package verdict

import (
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// locations is which pods stand on which nodes, as events and the ways of
// requests told it. A watch does not report what was there before it began, so
// the ways fill that in.
type locations struct {
	node     map[string]string          // by pod
	services map[string]map[string]bool // nodes by service
	looked   int
}

const (
	maxPods   = 10_000 // that a damaged record can make up
	lookAtAll = 2000   // ways that are read one by one, then one in lookEvery
	lookEvery = 64
)

func newLocations() locations {
	return locations{node: map[string]string{}, services: map[string]map[string]bool{}}
}

func (l *locations) put(service, pod, node string) {
	if node == "" || pod == "" || len(l.node) >= maxPods {
		return
	}
	l.node[pod] = node
	if l.services[service] == nil {
		l.services[service] = map[string]bool{}
	}
	l.services[service][node] = true
}

// learn reads the way of a request now and then.
func (l *locations) learn(r *results.Request) {
	if r.Hops == "" {
		return
	}
	if l.looked++; l.looked > lookAtAll && l.looked%lookEvery != 0 {
		return
	}
	all, err := hops.Parse(edgeService(r.Route), r.Hops)
	if err != nil {
		return
	}
	for _, h := range all {
		l.put(h.Service, h.Pod, h.Node)
	}
}

// on tells whether the called pod, or any pod of the called service, stands on
// a node; known is false when nothing was told of them.
func (l *locations) on(node string, w way) (here, known bool) {
	at := w.calleeNode
	if at == "" {
		at = l.node[w.calleePod]
	}
	if at != "" {
		return at == node, true
	}
	nodes := l.services[w.callee]
	return nodes[node], len(nodes) > 0
}
