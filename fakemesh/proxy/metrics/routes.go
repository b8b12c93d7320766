package metrics

import (
	"strconv"

	dto "github.com/prometheus/client_model/go"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// RouteBackend is a way that outbound requests go: from what was dialled, by a
// route, to a backend.
type RouteBackend struct {
	Parent, Route, Backend policy.Resource
}

// RouteBackend is the counter of requests that go a way. Those of gRPC count
// there as well: only a GRPCRoute, which there is not, would count otherwise.
func (r *Registry) RouteBackend(k RouteBackend) *Count {
	return r.routes.get(&k, nothing[RouteBackend], r.seconds())
}

func (r *Registry) routeBackends(f families, before int64) {
	r.routes.each(before, func(*Count) bool { return false }, func(k RouteBackend, c *Count) {
		var labels []*dto.LabelPair
		labels = append(labels, resourceLabels("parent", k.Parent)...)
		labels = append(labels, resourceLabels("route", k.Route)...)
		labels = append(labels, resourceLabels("backend", k.Backend)...)
		f.counter("outbound_http_route_backend_requests_total", c.n.Load(), labels)
	})
}

func resourceLabels(prefix string, r policy.Resource) []*dto.LabelPair {
	port := ""
	if r.Port != 0 {
		port = strconv.Itoa(int(r.Port))
	}
	return pairs(prefix+"_group", r.Group, prefix+"_kind", r.Kind, prefix+"_namespace", r.Namespace,
		prefix+"_name", r.Name, prefix+"_port", port)
}
