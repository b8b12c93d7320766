package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// ways writes the backends of each route's rules in short.
func ways(o *meshapi.OutboundRules) []string {
	out := []string{}
	for _, r := range o.Routes {
		for _, rule := range r.Rules {
			text := r.Resource.Name + ":"
			for _, b := range rule.Backends {
				to := b.Address
				if b.Failure != "" {
					to = b.Failure
				}
				text += fmt.Sprintf(" %d %s", b.Weight, to)
			}
			out = append(out, text)
		}
	}
	return out
}

func (c *cluster) routed(f *follower[meshapi.OutboundRules], want ...string) {
	c.t.Helper()
	f.until(func(o *meshapi.OutboundRules) bool { return fmt.Sprint(ways(o)) == fmt.Sprint(want) })
	_, err := policy.CompileOutbound(f.last)
	require.NoError(c.t, err)
}

const toWeb = `parentRefs: [{group: core, kind: Service, name: web, port: 9090}]`

func TestAServicesRoutesAreToldWithWhereTheirBackendsAre(t *testing.T) {
	c := newCluster(t)
	c.add("Service", webService)
	c.add("Service", canary)
	f := c.outbound("10.96.0.1:9090", "prod/client-1")
	c.routed(f)
	require.Equal(t, "core/Service/prod/web", f.last.Parent.Group+"/"+f.last.Parent.Kind+"/"+f.last.Parent.Namespace+"/"+f.last.Parent.Name)
	require.EqualValues(t, 9090, f.last.Parent.Port)

	c.add("HTTPRoute", `{metadata: {name: split}, spec: {`+toWeb+`, rules: [{timeouts: {request: 2s}, backendRefs: [{name: web, port: 9090, weight: 90}, {name: canary, port: 9090, weight: 10}]}]}}`)
	c.routed(f, "split: 90 10.96.0.1:9090 10 10.96.0.2:9090")
	require.Equal(t, 2*time.Second, f.last.Routes[0].Rules[0].Timeout.AsDuration())
	require.Equal(t, "HTTPRoute", f.last.Routes[0].Resource.Kind)

	c.remove("Service", canary)
	c.routed(f, "split: 90 10.96.0.1:9090 10 Service not found canary")
	require.Equal(t, "default/invalid", f.last.Routes[0].Rules[0].Backends[1].Resource.Kind+"/"+f.last.Routes[0].Rules[0].Backends[1].Resource.Name)
	c.add("Service", canary)
	c.routed(f, "split: 90 10.96.0.1:9090 10 10.96.0.2:9090")

	c.routed(c.outbound("10.96.0.1:8080", "prod/client-1"))
	c.remove("HTTPRoute", `{metadata: {name: split}, spec: {`+toWeb+`}}`)
	c.routed(f)
}

func TestBackendsThatCannotBeSentToAreToldWithTheReason(t *testing.T) {
	c := newCluster(t)
	c.add("Service", webService)
	c.add("Service", `{metadata: {name: headless}, spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 9090}]}}`)
	c.add("HTTPRoute", `{metadata: {name: r}, spec: {`+toWeb+`, rules: [{backendRefs: [{name: web}, {name: web, port: 7000}, {name: headless, port: 9090},
		{name: web, namespace: dev, port: 9090, weight: 0}, {group: apps, kind: Deployment, name: web}]}]}}`)
	c.routed(c.outbound("10.96.0.1:9090", "prod/client-1"),
		"r: 1 missing port for backend Service web 1 Service web has no port 7000 1 Service headless has no cluster IP 0 Service not found web 1 unsupported backend kind Deployment.apps")
}

func TestRoutesOfTheClientsNamespaceCountForItAlone(t *testing.T) {
	c := newCluster(t)
	c.add("Service", webService)
	c.add("HTTPRoute", `{metadata: {name: b-own}, spec: {`+toWeb+`, rules: [{}]}}`)
	c.add("HTTPRoute", `{metadata: {name: a-theirs, namespace: dev}, spec: {parentRefs: [{group: "", kind: Service, name: web, namespace: prod}], rules: [{}]}}`)
	c.routed(c.outbound("10.96.0.1:9090", "prod/client-1"), "b-own:")
	c.routed(c.outbound("10.96.0.1:9090", "dev/client-1"), "a-theirs:", "b-own:")
	c.routed(c.outbound("10.96.0.1:8080", "dev/client-1"), "a-theirs:")
}

func TestTheOlderRouteComesFirstOfWhicheverGroup(t *testing.T) {
	c := newCluster(t)
	c.add("Service", webService)
	c.add("HTTPRoute", `{metadata: {name: younger, creationTimestamp: "2026-01-02T00:00:00Z"}, spec: {`+toWeb+`, rules: [{}]}}`)
	c.add("GatewayHTTPRoute", `{metadata: {name: older, creationTimestamp: "2026-01-01T00:00:00Z"}, spec: {`+toWeb+`, rules: [{}]}}`)
	c.routed(c.outbound("10.96.0.1:9090", "prod/client-1"), "older:", "younger:")
}

func TestAnAddressThatIsNoServiceHasNoRoutes(t *testing.T) {
	c := newCluster(t)
	f := c.outbound("10.96.0.1:9090", "prod/client-1")
	require.Nil(t, f.until(func(*meshapi.OutboundRules) bool { return true }).Parent)
	c.add("Service", webService)
	f.until(func(o *meshapi.OutboundRules) bool { return o.Parent != nil })
	c.remove("Service", webService)
	f.until(func(o *meshapi.OutboundRules) bool { return o.Parent == nil })
}
