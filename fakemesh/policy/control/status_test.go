package control

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// conditions writes a route's status in short.
func conditions(s kinds.HTTPRouteStatus) []string {
	var out []string
	for _, p := range s.Parents {
		text := fmt.Sprintf("%s %s/%s by %s:", *p.ParentRef.Kind, *p.ParentRef.Namespace, p.ParentRef.Name, p.ControllerName)
		for _, c := range p.Conditions {
			text += fmt.Sprintf(" %s=%s (%s)", c.Type, c.Status, c.Reason)
		}
		out = append(out, text)
	}
	return out
}

func TestWhatBecameOfARouteIsWrittenOnIt(t *testing.T) {
	const us = " by linkerd.io/policy-controller:"
	for name, tc := range map[string]struct {
		spec string
		want []string
	}{
		"a Service and a backend that are there": {
			toWeb + `, rules: [{backendRefs: [{name: canary, port: 9090}]}]`,
			[]string{"Service prod/web" + us + " Accepted=True (Accepted) ResolvedRefs=True (ResolvedRefs)"},
		},
		"a Service without a backend": {toWeb, []string{"Service prod/web" + us + " Accepted=True (Accepted) ResolvedRefs=True (ResolvedRefs)"}},
		"a backend that is not there": {
			toWeb + `, rules: [{backendRefs: [{name: canary, port: 9090}, {name: gone, port: 9090}]}]`,
			[]string{"Service prod/web" + us + " Accepted=True (Accepted) ResolvedRefs=False (BackendNotFound)"},
		},
		"a backend without a port": {
			toWeb + `, rules: [{backendRefs: [{name: canary}]}]`,
			[]string{"Service prod/web" + us + " Accepted=True (Accepted) ResolvedRefs=False (BackendNotFound)"},
		},
		"a backend of another kind": {
			toWeb + `, rules: [{backendRefs: [{name: gone, port: 1}, {kind: Deployment, group: apps, name: x}]}]`,
			[]string{"Service prod/web" + us + " Accepted=True (Accepted) ResolvedRefs=False (InvalidKind)"},
		},
		"a Service that is not there": {
			`parentRefs: [{group: core, kind: Service, name: gone}]`,
			[]string{"Service prod/gone" + us + " Accepted=False (NoMatchingParent) ResolvedRefs=True (ResolvedRefs)"},
		},
		"a Server": {`parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]`, []string{"Server prod/web" + us + " Accepted=True (Accepted)"}},
		"a Server of another namespace": {
			`parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, namespace: dev}]`,
			[]string{"Server dev/web" + us + " Accepted=False (NoMatchingParent)"},
		},
		"a filter that is not supported": {
			toWeb + `, rules: [{filters: [{type: URLRewrite}]}]`,
			[]string{"Service prod/web" + us + " Accepted=False (UnsupportedValue) ResolvedRefs=True (ResolvedRefs)"},
		},
		"what another controller said stays, and its parents are left to it": {
			`parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}, {group: policy.linkerd.io, kind: Server, name: web}]}, status: {parents: [
				{controllerName: example.com/edge, parentRef: {kind: Gateway, namespace: prod, name: edge}, conditions: []}]`,
			[]string{"Gateway prod/edge by example.com/edge:", "Server prod/web" + us + " Accepted=True (Accepted)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.add("Service", webService)
			c.add("Service", canary)
			c.add("Server", `{metadata: {name: web}, spec: {podSelector: {}, port: 9090}}`)
			c.add("HTTPRoute", `{metadata: {name: r}, spec: {`+tc.spec+`}}`)
			require.Eventually(t, func() bool {
				changes := c.index.statusChanges(metav1.Now())
				return len(changes) == 1 && fmt.Sprint(conditions(changes[0].status)) == fmt.Sprint(tc.want)
			}, patience, time.Millisecond, "%v", tc.want)
		})
	}
}

// api keeps statuses as an API server does.
type api struct {
	c      *cluster
	mu     sync.Mutex
	writes []string
}

func (a *api) write(_ context.Context, gv schema.GroupVersion, namespace, name string, s kinds.HTTPRouteStatus) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writes = append(a.writes, fmt.Sprintf("%s %s/%s %s", gv.Group, namespace, name, conditions(s)))
	old := get[kinds.HTTPRoute](a.c.index.Routes, namespace, name)
	next := old.DeepCopyObject().(*kinds.HTTPRoute)
	next.Status = s
	a.c.sources["HTTPRoute"].Modify(next)
	return nil
}

func (a *api) written() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.writes...)
}

func TestStatusesAreWrittenOnceForEachChange(t *testing.T) {
	c := newCluster(t)
	a := &api{c: c}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(c.ctx)
	go func() {
		defer close(ended)
		c.index.WriteStatuses(ctx, a.write)
	}()
	defer func() { cancel(); <-ended }()
	c.add("Service", webService)
	c.add("Service", canary)
	last := func(want string) func() bool {
		return func() bool {
			w := a.written()
			return len(w) > 0 && w[len(w)-1] == want
		}
	}
	c.add("HTTPRoute", `{metadata: {name: split}, spec: {`+toWeb+`, rules: [{backendRefs: [{name: canary, port: 9090}]}]}}`)
	good := "policy.linkerd.io prod/split [Service prod/web by linkerd.io/policy-controller: Accepted=True (Accepted) ResolvedRefs=True (ResolvedRefs)]"
	require.Eventually(t, last(good), patience, time.Millisecond)
	since := get[kinds.HTTPRoute](c.index.Routes, "prod", "split")
	require.Eventually(t, func() bool {
		since = get[kinds.HTTPRoute](c.index.Routes, "prod", "split")
		return len(since.Status.Parents) == 1
	}, patience, time.Millisecond)
	before := len(a.written())
	c.add("Service", `{metadata: {name: unconcerned}, spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9]}}`)
	time.Sleep(50 * time.Millisecond)
	require.Len(t, a.written(), before, "nothing has changed")

	c.remove("Service", canary)
	bad := "policy.linkerd.io prod/split [Service prod/web by linkerd.io/policy-controller: Accepted=True (Accepted) ResolvedRefs=False (BackendNotFound)]"
	require.Eventually(t, last(bad), patience, time.Millisecond)
	require.Eventually(t, func() bool {
		now := get[kinds.HTTPRoute](c.index.Routes, "prod", "split").Status.Parents[0].Conditions
		return now[1].Status == metav1.ConditionFalse && now[0].LastTransitionTime.Equal(&since.Status.Parents[0].Conditions[0].LastTransitionTime)
	}, patience, time.Millisecond, "what stays so has been so since then")
}
