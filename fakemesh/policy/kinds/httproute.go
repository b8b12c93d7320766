package kinds

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// HTTPRoute is that of policy.linkerd.io or of the Gateway API.
type HTTPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              HTTPRouteSpec   `json:"spec"`
	Status            HTTPRouteStatus `json:"status,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (r *HTTPRoute) DeepCopyObject() runtime.Object { return deepCopy(r) }

// HTTPRouteSpec attaches rules to Servers or to Services.
type HTTPRouteSpec struct {
	ParentRefs []ParentRef `json:"parentRefs,omitempty"`
	Hostnames  []string    `json:"hostnames,omitempty"`
	Rules      []Rule      `json:"rules,omitempty"`
}

// ParentRef is what a route is attached to.
type ParentRef struct {
	Group       *string `json:"group,omitempty"`
	Kind        *string `json:"kind,omitempty"`
	Namespace   *string `json:"namespace,omitempty"`
	Name        string  `json:"name"`
	SectionName *string `json:"sectionName,omitempty"`
	Port        *int32  `json:"port,omitempty"`
}

// Is says whether the parent is of that kind. Without a kind it is of none.
func (p ParentRef) Is(group, kind string) bool {
	return p.Kind != nil && sameGroup(deref(p.Group), group) && strings.EqualFold(*p.Kind, kind)
}

// In is the parent's namespace, for a route of namespace own.
func (p ParentRef) In(own string) string { return or(p.Namespace, own) }

// Rule is which requests are meant, and what becomes of them.
type Rule struct {
	Matches     []Match      `json:"matches,omitempty"`
	Filters     []Filter     `json:"filters,omitempty"`
	BackendRefs []BackendRef `json:"backendRefs,omitempty"`
	Timeouts    *Timeouts    `json:"timeouts,omitempty"` // policy.linkerd.io alone
}

// Match is everything that it asks for at once.
type Match struct {
	Path        *PathMatch   `json:"path,omitempty"`
	Headers     []ValueMatch `json:"headers,omitempty"`
	QueryParams []ValueMatch `json:"queryParams,omitempty"`
	Method      *string      `json:"method,omitempty"`
}

// Types of matches.
const (
	MatchExact  = "Exact"
	MatchPrefix = "PathPrefix"
	MatchRegex  = "RegularExpression"
)

// PathMatch is a path; without a type its beginning.
type PathMatch struct {
	Type  *string `json:"type,omitempty"`
	Value *string `json:"value,omitempty"`
}

// ValueMatch is a header's or a parameter's value; without a type the whole.
type ValueMatch struct {
	Type  *string `json:"type,omitempty"`
	Name  string  `json:"name"`
	Value string  `json:"value"`
}

// Types of filters.
const (
	FilterRequestHeaders  = "RequestHeaderModifier"
	FilterResponseHeaders = "ResponseHeaderModifier"
	FilterRedirect        = "RequestRedirect"
)

// Filter changes or answers a request.
type Filter struct {
	Type                   string        `json:"type"`
	RequestHeaderModifier  *HeaderChange `json:"requestHeaderModifier,omitempty"`
	ResponseHeaderModifier *HeaderChange `json:"responseHeaderModifier,omitempty"`
	RequestRedirect        *Redirect     `json:"requestRedirect,omitempty"`
	// Those of the Gateway API that Linkerd does not support.
	RequestMirror map[string]any `json:"requestMirror,omitempty"`
	URLRewrite    map[string]any `json:"urlRewrite,omitempty"`
	ExtensionRef  map[string]any `json:"extensionRef,omitempty"`
}

// HeaderChange sets, adds and removes headers.
type HeaderChange struct {
	Set    []Header `json:"set,omitempty"`
	Add    []Header `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// Header is a name with its value.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Types of path changes.
const (
	ReplaceFullPath    = "ReplaceFullPath"
	ReplacePrefixMatch = "ReplacePrefixMatch"
)

// Redirect is where a request is sent.
type Redirect struct {
	Scheme     *string     `json:"scheme,omitempty"`
	Hostname   *string     `json:"hostname,omitempty"`
	Path       *PathChange `json:"path,omitempty"`
	Port       *int32      `json:"port,omitempty"`
	StatusCode *int32      `json:"statusCode,omitempty"`
}

// PathChange is what takes a path's place.
type PathChange struct {
	Type               string  `json:"type"`
	ReplaceFullPath    *string `json:"replaceFullPath,omitempty"`
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
}

// BackendRef is where requests go; without a kind a Service, without a weight 1.
type BackendRef struct {
	Group     *string  `json:"group,omitempty"`
	Kind      *string  `json:"kind,omitempty"`
	Name      string   `json:"name"`
	Namespace *string  `json:"namespace,omitempty"`
	Port      *int32   `json:"port,omitempty"`
	Weight    *int32   `json:"weight,omitempty"`
	Filters   []Filter `json:"filters,omitempty"`
}

// IsService says whether the backend is a Service.
func (b BackendRef) IsService() bool {
	return sameGroup(deref(b.Group), CoreGroup) && strings.EqualFold(or(b.Kind, "Service"), "Service")
}

// In is the backend's namespace, for a route of namespace own.
func (b BackendRef) In(own string) string { return or(b.Namespace, own) }

// Timeouts are durations such as "1m30s"; zero is none.
type Timeouts struct {
	Request        *string `json:"request,omitempty"`
	BackendRequest *string `json:"backendRequest,omitempty"`
}

// HTTPRouteStatus is what controllers say of a route.
type HTTPRouteStatus struct {
	Parents []ParentStatus `json:"parents,omitempty"`
}

// ParentStatus is what one controller says of one parent.
type ParentStatus struct {
	ParentRef      ParentRef          `json:"parentRef"`
	ControllerName string             `json:"controllerName"`
	Conditions     []metav1.Condition `json:"conditions,omitempty"`
}

func deref(s *string) string { return or(s, "") }

func or(s *string, fallback string) string {
	if s == nil {
		return fallback
	}
	return *s
}
