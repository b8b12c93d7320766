// Package admission refuses objects of the policy API that make no sense, when
// they are created or changed.
package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"meshsim.dev/meshsim/fakemesh/admit"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Policies reviews objects of policy.linkerd.io and HTTPRoutes of the Gateway API.
type Policies struct {
	Mesh convert.Mesh
	// Servers reads those of a namespace as they are now.
	Servers func(ctx context.Context, namespace string) ([]kinds.Server, error)
	// Pods are those of a namespace, as far as they are known.
	Pods func(namespace string) []*corev1.Pod
	Log  *slog.Logger
}

// Review implements admit.Review.
func (p *Policies) Review(ctx context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if req.Operation == admissionv1.Delete {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	err := p.check(ctx, req)
	if err == nil {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	p.Log.Info("denied", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "error", err)
	code := int32(http.StatusForbidden)
	if errors.As(err, &unknownError{}) {
		code = http.StatusInternalServerError
	}
	return admit.Refuse(code, err)
}

// unknownError means that an object could not be judged.
type unknownError struct{ error }

func (p *Policies) check(ctx context.Context, req *admissionv1.AdmissionRequest) error {
	raw, namespace := req.Object.Raw, req.Namespace
	switch req.Kind.Group + "/" + req.Kind.Kind {
	case kinds.Group + "/Server":
		return decoded(raw, func(o *kinds.Server) error { return p.server(ctx, namespace, o) })
	case kinds.Group + "/ServerAuthorization":
		return decoded(raw, func(o *kinds.ServerAuthorization) error { return p.serverAuthorization(namespace, o.Spec) })
	case kinds.Group + "/AuthorizationPolicy":
		return decoded(raw, func(o *kinds.AuthorizationPolicy) error { return authorizationPolicy(namespace, o.Spec) })
	case kinds.Group + "/MeshTLSAuthentication":
		return decoded(raw, func(o *kinds.MeshTLSAuthentication) error {
			if len(o.Spec.Identities) > 0 && len(o.Spec.IdentityRefs) > 0 {
				return errors.New("identities and identityRefs cannot both be named")
			}
			_, err := p.Mesh.Identities(namespace, o.Spec)
			return err
		})
	case kinds.Group + "/NetworkAuthentication":
		return decoded(raw, func(o *kinds.NetworkAuthentication) error {
			_, err := convert.Networks(o.Spec.Networks)
			return err
		})
	case kinds.Group + "/HTTPRoute", kinds.GatewayGroup + "/HTTPRoute":
		return decoded(raw, func(o *kinds.HTTPRoute) error { return httpRoute(req.Kind.Group, namespace, o) })
	default:
		return fmt.Errorf("%s is of no kind that is known here", kinds.Ref{Group: req.Kind.Group, Kind: req.Kind.Kind})
	}
}

// decoded reads an object, in which no field may be unknown, and checks it.
func decoded[T any](raw []byte, check func(*T) error) error {
	o := new(T)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(o); err != nil {
		return fmt.Errorf("the object cannot be read: %w", err)
	}
	return check(o)
}

func (p *Policies) server(ctx context.Context, namespace string, o *kinds.Server) error {
	if _, err := convert.Protocol(o.Spec.ProxyProtocol); err != nil {
		return err
	}
	if err := port(o.Spec.Port); err != nil {
		return err
	}
	if o.Spec.PodSelector == nil {
		return errors.New("podSelector is needed; {} selects every pod")
	}
	if _, err := metav1.LabelSelectorAsSelector(o.Spec.PodSelector); err != nil {
		return fmt.Errorf("podSelector: %w", err)
	}
	// The cache may lag behind, and this is about what is there at this moment.
	others, err := p.Servers(ctx, namespace)
	if err != nil {
		return unknownError{err}
	}
	for i := range others {
		if other := &others[i]; other.Name != o.Name && p.overlap(namespace, other, o) {
			return fmt.Errorf("the Server %s/%s already says who may use port %s of pods that this one selects",
				namespace, other.Name, other.Spec.Port.String())
		}
	}
	return nil
}

func port(p intstr.IntOrString) error {
	var problems []string
	if p.Type == intstr.Int {
		problems = validation.IsValidPortNum(p.IntValue())
	} else {
		problems = validation.IsValidPortName(p.StrVal)
	}
	if len(problems) > 0 {
		return fmt.Errorf("port %s: %s", p.String(), problems[0])
	}
	return nil
}

// overlap says whether two Servers select, or are bound to select, one port of
// one pod.
func (p *Policies) overlap(namespace string, a, b *kinds.Server) bool {
	if a.Spec.Port == b.Spec.Port && sameSelection(a.Spec.PodSelector, b.Spec.PodSelector) {
		return true
	}
	for _, pod := range p.Pods(namespace) {
		for _, x := range kinds.SelectedPorts(a, pod) {
			for _, y := range kinds.SelectedPorts(b, pod) {
				if x == y {
					return true
				}
			}
		}
	}
	return false
}

func sameSelection(a, b *metav1.LabelSelector) bool {
	all := func(s *metav1.LabelSelector) bool {
		return s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
	}
	return all(a) || all(b) || reflect.DeepEqual(a, b)
}

func (p *Policies) serverAuthorization(namespace string, s kinds.ServerAuthorizationSpec) error {
	if (s.Server.Name == "") == (s.Server.Selector == nil) {
		return errors.New("server must say either a name or a selector")
	}
	if s.Server.Selector != nil {
		if _, err := metav1.LabelSelectorAsSelector(s.Server.Selector); err != nil {
			return fmt.Errorf("server.selector: %w", err)
		}
	}
	_, err := p.Mesh.Client(namespace, s.Client)
	return err
}

func authorizationPolicy(namespace string, s kinds.AuthorizationPolicySpec) error {
	t := s.TargetRef
	switch {
	case t.Is(kinds.Group, "Server"), t.Is(kinds.Group, "HTTPRoute"), t.Is(kinds.GatewayGroup, "HTTPRoute"):
		if t.Name == "" {
			return fmt.Errorf("targetRef names a %s without its name", t)
		}
	case t.Is(kinds.CoreGroup, "Namespace"):
		if t.Name != namespace {
			return fmt.Errorf("targetRef cannot be another namespace: %s", t.Name)
		}
	default:
		return fmt.Errorf("targetRef cannot be a %s: want a Server, an HTTPRoute or the Namespace", t)
	}
	_, _, err := convert.Authentications(s.RequiredAuthenticationRefs)
	return err
}

func httpRoute(group, namespace string, o *kinds.HTTPRoute) error {
	toServer := false
	for _, ref := range o.Spec.ParentRefs {
		if !ref.Is(kinds.Group, "Server") {
			continue
		}
		toServer = true
		switch {
		case ref.In(namespace) != namespace:
			return fmt.Errorf("parentRefs cannot name a Server of another namespace: %s", *ref.Namespace)
		case ref.Port != nil:
			return errors.New("parentRefs cannot name a port of a Server")
		case ref.SectionName != nil:
			return errors.New("parentRefs cannot name a section of a Server")
		}
	}
	if toServer {
		if _, err := convert.Inbound(group, o); err != nil {
			return err
		}
	}
	if group == kinds.GatewayGroup {
		if err := gatewayBackends(o); err != nil {
			return err
		}
	}
	// Whether backends are there is the status's affair: they may come later.
	_, err := convert.Outbound(group, o, func(kinds.BackendRef) *meshapi.Backend { return &meshapi.Backend{} })
	return err
}

// gatewayBackends asks for the port that the Gateway API asks for; what is no
// Service is another's affair.
func gatewayBackends(o *kinds.HTTPRoute) error {
	for _, r := range o.Spec.Rules {
		for _, b := range r.BackendRefs {
			if b.IsService() && (b.Port == nil || *b.Port == 0) {
				return fmt.Errorf("backendRefs name Service %s without a port", b.Name)
			}
		}
	}
	return nil
}
