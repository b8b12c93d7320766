package control

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// ControllerName is who writes statuses.
const ControllerName = "linkerd.io/policy-controller"

// Conditions of routes, and reasons for them.
const (
	conditionAccepted     = "Accepted"
	conditionResolvedRefs = "ResolvedRefs"

	reasonNoMatchingParent = "NoMatchingParent"
	reasonBackendNotFound  = "BackendNotFound"
	reasonInvalidKind      = "InvalidKind"
	reasonUnsupportedValue = "UnsupportedValue"
)

// Write puts a status on an HTTPRoute of a group and version.
type Write func(ctx context.Context, gv schema.GroupVersion, namespace, name string, s kinds.HTTPRouteStatus) error

// writeAgain is how long after a failure statuses are written again.
const writeAgain = 5 * time.Second

type statusChange struct {
	gv              schema.GroupVersion
	namespace, name string
	status          kinds.HTTPRouteStatus
}

// WriteStatuses keeps the statuses of HTTPRoutes as they should be until ctx
// ends. Several controllers that do so write the same.
func (x *Index) WriteStatuses(ctx context.Context, write Write) {
	if x.Synced(ctx) != nil {
		return
	}
	look := func() ([]statusChange, hub.Keys) {
		keys := hub.Keys{}
		keys.Add(statusKey)
		return x.statusChanges(metav1.Now()), keys
	}
	never := func(_, _ []statusChange) bool { return false }
	_ = hub.Follow(ctx, x.hub, look, never, func(changes []statusChange) error {
		failed := false
		for _, c := range changes {
			if err := write(ctx, c.gv, c.namespace, c.name, c.status); err != nil {
				x.log.Warn("a status was not written", "route", c.namespace+"/"+c.name, "error", err)
				failed = true
			}
		}
		if failed {
			time.AfterFunc(writeAgain, func() { x.hub.Publish(statusKey) })
		}
		return nil
	})
}

// statusChanges are the statuses that are not as they should be.
func (x *Index) statusChanges(now metav1.Time) []statusChange {
	var out []statusChange
	for _, gv := range []schema.GroupVersion{kinds.V1Beta3, kinds.Gateway} {
		informer := x.Routes
		if gv == kinds.Gateway {
			informer = x.GatewayRoutes
		}
		for _, obj := range informer.GetStore().List() {
			r, ok := obj.(*kinds.HTTPRoute)
			if !ok {
				continue
			}
			want := x.status(gv.Group, r, now)
			if !slices.EqualFunc(want, r.Status.Parents, sameParent) {
				out = append(out, statusChange{gv, r.Namespace, r.Name, kinds.HTTPRouteStatus{Parents: want}})
			}
		}
	}
	slices.SortFunc(out, func(a, b statusChange) int {
		return slices.Compare([]string{a.gv.Group, a.namespace, a.name}, []string{b.gv.Group, b.namespace, b.name})
	})
	return out
}

func sameParent(a, b kinds.ParentStatus) bool {
	return a.ControllerName == b.ControllerName && parentID(a.ParentRef) == parentID(b.ParentRef) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y metav1.Condition) bool {
			x.LastTransitionTime, y.LastTransitionTime = metav1.Time{}, metav1.Time{}
			return x == y
		})
}

// parentRef is a ParentRef that can be compared.
type parentRef struct {
	group, kind, namespace, name, section string
	port                                  int32
}

func parentID(p kinds.ParentRef) parentRef {
	out := parentRef{name: p.Name}
	for _, s := range []struct {
		from *string
		into *string
	}{{p.Group, &out.group}, {p.Kind, &out.kind}, {p.Namespace, &out.namespace}, {p.SectionName, &out.section}} {
		if s.from != nil {
			*s.into = *s.from
		}
	}
	if p.Port != nil {
		out.port = *p.Port
	}
	return out
}

// status is what a route's should be: what other controllers said stays.
func (x *Index) status(group string, r *kinds.HTTPRoute, now metav1.Time) []kinds.ParentStatus {
	var out []kinds.ParentStatus
	for _, s := range r.Status.Parents {
		if s.ControllerName != ControllerName {
			out = append(out, s)
		}
	}
	for _, p := range r.Spec.ParentRefs {
		var made kinds.ParentStatus
		namespace := p.In(r.Namespace)
		switch {
		case p.Is(kinds.Group, "Server"):
			made.ParentRef = fullRef(kinds.Group, "Server", namespace, p)
			made.Conditions = []metav1.Condition{x.acceptedByServer(group, r, p)}
		case p.Is(kinds.CoreGroup, "Service"):
			made.ParentRef = fullRef(kinds.CoreGroup, "Service", namespace, p)
			made.Conditions = []metav1.Condition{x.acceptedByService(group, r, namespace, p), x.resolved(r)}
		default:
			continue // another controller's
		}
		made.ControllerName = ControllerName
		date(made, r.Status.Parents, now)
		out = append(out, made)
	}
	return out
}

func fullRef(group, kind, namespace string, p kinds.ParentRef) kinds.ParentRef {
	return kinds.ParentRef{Group: &group, Kind: &kind, Namespace: &namespace, Name: p.Name, Port: p.Port, SectionName: p.SectionName}
}

// date tells since when each condition has been so.
func date(made kinds.ParentStatus, before []kinds.ParentStatus, now metav1.Time) {
	for i := range made.Conditions {
		c := &made.Conditions[i]
		c.LastTransitionTime = now
		for _, b := range before {
			if b.ControllerName != ControllerName || parentID(b.ParentRef) != parentID(made.ParentRef) {
				continue
			}
			for _, old := range b.Conditions {
				if old.Type == c.Type && old.Status == c.Status {
					c.LastTransitionTime = old.LastTransitionTime
				}
			}
		}
	}
}

func condition(kind, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if reason == "" {
		c.Status, c.Reason = metav1.ConditionTrue, kind
	}
	return c
}

func (x *Index) acceptedByServer(group string, r *kinds.HTTPRoute, p kinds.ParentRef) metav1.Condition {
	srv := get[kinds.Server](x.Servers, p.In(r.Namespace), p.Name)
	if srv == nil || !attaches(p, r.Namespace, srv) {
		return condition(conditionAccepted, reasonNoMatchingParent, "there is no such Server in the route's namespace")
	}
	if _, err := convert.Inbound(group, r); err != nil {
		return condition(conditionAccepted, reasonUnsupportedValue, err.Error())
	}
	return condition(conditionAccepted, "", "")
}

func (x *Index) acceptedByService(group string, r *kinds.HTTPRoute, namespace string, p kinds.ParentRef) metav1.Condition {
	svc := get[corev1.Service](x.Services, namespace, p.Name)
	if svc == nil || !hasIP(svc) {
		return condition(conditionAccepted, reasonNoMatchingParent, "there is no such Service with a cluster IP")
	}
	_, err := convert.Outbound(group, r, func(ref kinds.BackendRef) *meshapi.Backend {
		return x.backend(r.Namespace, ref, hub.Keys{})
	})
	if err != nil {
		return condition(conditionAccepted, reasonUnsupportedValue, err.Error())
	}
	return condition(conditionAccepted, "", "")
}

// resolved says whether every backend of a route is there.
func (x *Index) resolved(r *kinds.HTTPRoute) metav1.Condition {
	for _, rule := range r.Spec.Rules {
		for _, ref := range rule.BackendRefs {
			if !ref.IsService() {
				_, failure := x.backendService(r.Namespace, ref, hub.Keys{})
				return condition(conditionResolvedRefs, reasonInvalidKind, failure)
			}
		}
	}
	for _, rule := range r.Spec.Rules {
		for _, ref := range rule.BackendRefs {
			if _, failure := x.backendService(r.Namespace, ref, hub.Keys{}); failure != "" {
				return condition(conditionResolvedRefs, reasonBackendNotFound, failure)
			}
		}
	}
	return condition(conditionResolvedRefs, "", "")
}
