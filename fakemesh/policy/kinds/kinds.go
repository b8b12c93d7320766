// Package kinds are the Kubernetes types of Linkerd's policy API, as far as the
// stand-in reads them.
package kinds

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Groups of the API.
const (
	Group        = "policy.linkerd.io"
	GatewayGroup = "gateway.networking.k8s.io"
	CoreGroup    = "core" // as references and labels write Kubernetes' own
)

// Versions that are read.
var (
	V1Alpha1 = schema.GroupVersion{Group: Group, Version: "v1alpha1"}
	V1Beta1  = schema.GroupVersion{Group: Group, Version: "v1beta1"}
	V1Beta3  = schema.GroupVersion{Group: Group, Version: "v1beta3"}
	Gateway  = schema.GroupVersion{Group: GatewayGroup, Version: "v1beta1"}
)

// Object is one of the API's, with the spec S.
type Object[S any] struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              S `json:"spec"`
}

// DeepCopyObject implements runtime.Object.
func (o *Object[S]) DeepCopyObject() runtime.Object { return deepCopy(o) }

// List is several of a kind.
type List[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []T `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *List[T]) DeepCopyObject() runtime.Object { return deepCopy(l) }

// deepCopy goes by way of JSON, which all of these came from. Nothing that runs
// often asks for it.
func deepCopy[T any](v *T) *T {
	out := new(T)
	if text, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(text, out)
	}
	return out
}

// The kinds.
type (
	Server                = Object[ServerSpec]
	ServerAuthorization   = Object[ServerAuthorizationSpec]
	AuthorizationPolicy   = Object[AuthorizationPolicySpec]
	MeshTLSAuthentication = Object[MeshTLSAuthenticationSpec]
	NetworkAuthentication = Object[NetworkAuthenticationSpec]
)

// Register puts the kinds into a scheme.
func Register(s *runtime.Scheme) error {
	add := func(gv schema.GroupVersion, kind string, one, list runtime.Object) {
		s.AddKnownTypeWithName(gv.WithKind(kind), one)
		s.AddKnownTypeWithName(gv.WithKind(kind+"List"), list)
	}
	add(V1Beta1, "Server", &Server{}, &List[Server]{})
	add(V1Beta1, "ServerAuthorization", &ServerAuthorization{}, &List[ServerAuthorization]{})
	add(V1Alpha1, "AuthorizationPolicy", &AuthorizationPolicy{}, &List[AuthorizationPolicy]{})
	add(V1Alpha1, "MeshTLSAuthentication", &MeshTLSAuthentication{}, &List[MeshTLSAuthentication]{})
	add(V1Alpha1, "NetworkAuthentication", &NetworkAuthentication{}, &List[NetworkAuthentication]{})
	add(V1Beta3, "HTTPRoute", &HTTPRoute{}, &List[HTTPRoute]{})
	add(Gateway, "HTTPRoute", &HTTPRoute{}, &List[HTTPRoute]{})
	for _, gv := range []schema.GroupVersion{V1Alpha1, V1Beta1, V1Beta3, Gateway} {
		metav1.AddToGroupVersion(s, gv)
	}
	return nil
}

// Values of a Server's proxyProtocol.
const (
	ProtocolUnknown = "unknown"
	ProtocolHTTP1   = "HTTP/1"
	ProtocolHTTP2   = "HTTP/2"
	ProtocolGRPC    = "gRPC"
	ProtocolOpaque  = "opaque"
	ProtocolTLS     = "TLS"
)

// ServerSpec selects a port of pods in the same namespace.
type ServerSpec struct {
	PodSelector   *metav1.LabelSelector `json:"podSelector"`
	Port          intstr.IntOrString    `json:"port"` // or its name in the pods' containers
	ProxyProtocol string                `json:"proxyProtocol,omitempty"`
}

// ServerAuthorizationSpec lets clients into Servers of the same namespace.
type ServerAuthorizationSpec struct {
	Server ServerChoice `json:"server"`
	Client ClientChoice `json:"client"`
}

// ServerChoice is one Server by its name, or several by their labels.
type ServerChoice struct {
	Name     string                `json:"name,omitempty"`
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// ClientChoice is who is let in. Without Networks it is the cluster's.
type ClientChoice struct {
	Networks        []Network `json:"networks,omitempty"`
	Unauthenticated bool      `json:"unauthenticated,omitempty"`
	MeshTLS         *MeshTLS  `json:"meshTLS,omitempty"`
}

// MeshTLS asks for mutual TLS.
type MeshTLS struct {
	UnauthenticatedTLS bool             `json:"unauthenticatedTLS,omitempty"`
	Identities         []string         `json:"identities,omitempty"`
	ServiceAccounts    []ServiceAccount `json:"serviceAccounts,omitempty"`
}

// ServiceAccount is one by name; without Namespace it is the object's own.
type ServiceAccount struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// Network is a CIDR without some parts of it.
type Network struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// AuthorizationPolicySpec lets in who fulfils all of the references.
type AuthorizationPolicySpec struct {
	TargetRef                  Ref   `json:"targetRef"`
	RequiredAuthenticationRefs []Ref `json:"requiredAuthenticationRefs"`
}

// MeshTLSAuthenticationSpec are identities, any of which is enough.
type MeshTLSAuthenticationSpec struct {
	Identities   []string `json:"identities,omitempty"`
	IdentityRefs []Ref    `json:"identityRefs,omitempty"`
}

// NetworkAuthenticationSpec are networks, any of which is enough.
type NetworkAuthenticationSpec struct {
	Networks []Network `json:"networks"`
}

// Ref points at an object. Kubernetes' own group is "" or "core".
type Ref struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// Is says whether the reference is to that kind.
func (r Ref) Is(group, kind string) bool {
	return sameGroup(r.Group, group) && strings.EqualFold(r.Kind, kind)
}

// String writes the kind as error messages have it.
func (r Ref) String() string {
	if r.Group == "" {
		return r.Kind
	}
	return r.Kind + "." + r.Group
}

func sameGroup(a, b string) bool {
	own := func(g string) bool { return g == "" || strings.EqualFold(g, CoreGroup) }
	return own(a) && own(b) || strings.EqualFold(a, b)
}
