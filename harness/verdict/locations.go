package verdict

import (
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
)

// locations is which pods stand on which nodes, as events and the ways of
// requests told it. A watch does not report what was there before it began, so
// the ways fill that in.
type locations struct {
	node     map[string]string          // by pod
	services map[string]map[string]bool // nodes by service
	pods     map[string][]string        // by service
	looked   int
}

const (
	maxPods   = 10_000 // that a damaged record can make up
	lookAtAll = 2000   // ways that are looked at one by one, then one in lookEvery
	lookEvery = 64
)

func newLocations() locations {
	return locations{node: map[string]string{}, services: map[string]map[string]bool{}, pods: map[string][]string{}}
}

func (l *locations) put(service, pod, node string) {
	if node == "" || pod == "" || len(l.node) >= maxPods {
		return
	}
	if _, known := l.node[pod]; !known {
		l.pods[service] = append(l.pods[service], pod)
	}
	l.node[pod] = node
	if l.services[service] == nil {
		l.services[service] = map[string]bool{}
	}
	l.services[service][node] = true
}

// learn looks at the way of a request now and then.
func (l *locations) learn(told []hops.Hop) {
	if len(told) == 0 {
		return
	}
	if l.looked++; l.looked > lookAtAll && l.looked%lookEvery != 0 {
		return
	}
	for i := range told {
		l.put(told[i].Service, told[i].Pod, told[i].Node)
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
