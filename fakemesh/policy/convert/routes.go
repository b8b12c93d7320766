package convert

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/util/validation"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Inbound makes the route that an HTTPRoute of a group is to the Servers it is
// attached to. What concerns backends alone means nothing there.
func Inbound(group string, r *kinds.HTTPRoute) (*meshapi.Route, error) {
	return route(group, r, func(_ kinds.Rule, out *meshapi.Rule) error {
		if out.Filters.GetResponse() != nil {
			return fmt.Errorf("the filter %s is not supported on a Server", kinds.FilterResponseHeaders)
		}
		return nil
	})
}

// Outbound makes the route that an HTTPRoute is to the Services it is attached
// to. resolve finds a backend's address, or says why there is none.
func Outbound(group string, r *kinds.HTTPRoute, resolve func(kinds.BackendRef) *meshapi.Backend) (*meshapi.Route, error) {
	return route(group, r, func(rl kinds.Rule, out *meshapi.Rule) error {
		for _, ref := range rl.BackendRefs {
			b := resolve(ref)
			b.Weight = 1
			if ref.Weight != nil {
				b.Weight = uint32(max(*ref.Weight, 0))
			}
			var err error
			if b.Filters, err = filters(ref.Filters); err != nil {
				return fmt.Errorf("backend %s: %w", ref.Name, err)
			}
			out.Backends = append(out.Backends, b)
		}
		limit, err := timeout(rl.Timeouts)
		if err == nil && limit > 0 {
			out.Timeout = durationpb.New(limit)
		}
		return err
	})
}

func route(group string, r *kinds.HTTPRoute, more func(kinds.Rule, *meshapi.Rule) error) (*meshapi.Route, error) {
	out := &meshapi.Route{
		Resource: &meshapi.Resource{Group: group, Kind: "HTTPRoute", Namespace: r.Namespace, Name: r.Name},
		Hosts:    r.Spec.Hostnames,
	}
	for _, h := range r.Spec.Hostnames {
		if errs := validation.IsDNS1123Subdomain(strings.TrimPrefix(h, "*.")); len(errs) > 0 {
			return nil, fmt.Errorf("hostname %q: %s", h, errs[0])
		}
	}
	for i, rl := range r.Spec.Rules {
		made, err := rule(rl)
		if err == nil {
			err = more(rl, made)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		out.Rules = append(out.Rules, made)
	}
	return out, nil
}

func rule(rl kinds.Rule) (*meshapi.Rule, error) {
	out := &meshapi.Rule{}
	for _, m := range rl.Matches {
		made, err := match(m)
		if err != nil {
			return nil, err
		}
		out.Matches = append(out.Matches, made)
	}
	if err := policy.CheckMatches(out.Matches); err != nil {
		return nil, err
	}
	var err error
	out.Filters, err = filters(rl.Filters)
	return out, err
}

func match(m kinds.Match) (*meshapi.Match, error) {
	out := &meshapi.Match{}
	if m.Method != nil {
		out.Method = *m.Method
	}
	if m.Path != nil {
		kind, ok := map[string]meshapi.PathMatch_Kind{
			"": meshapi.PathMatch_PREFIX, kinds.MatchPrefix: meshapi.PathMatch_PREFIX,
			kinds.MatchExact: meshapi.PathMatch_EXACT, kinds.MatchRegex: meshapi.PathMatch_REGEX,
		}[or(m.Path.Type, "")]
		if !ok {
			return nil, fmt.Errorf("path match type %q is not known", *m.Path.Type)
		}
		out.Path = &meshapi.PathMatch{Kind: kind, Value: or(m.Path.Value, "/")}
	}
	var err error
	if out.Headers, err = values(m.Headers); err != nil {
		return nil, err
	}
	out.Queries, err = values(m.QueryParams)
	return out, err
}

func values(list []kinds.ValueMatch) ([]*meshapi.ValueMatch, error) {
	var out []*meshapi.ValueMatch
	for _, v := range list {
		made := &meshapi.ValueMatch{Name: v.Name, Value: v.Value}
		switch or(v.Type, kinds.MatchExact) {
		case kinds.MatchExact:
		case kinds.MatchRegex:
			made.Regex = true
		default:
			return nil, fmt.Errorf("match type %q of %s is not known", *v.Type, v.Name)
		}
		out = append(out, made)
	}
	return out, nil
}

func filters(list []kinds.Filter) (*meshapi.Filters, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := &meshapi.Filters{}
	seen := map[string]bool{}
	for _, f := range list {
		if seen[f.Type] {
			return nil, fmt.Errorf("the filter %s is there twice", f.Type)
		}
		seen[f.Type] = true
		switch {
		case f.Type == kinds.FilterRequestHeaders && f.RequestHeaderModifier != nil:
			out.Request = headers(f.RequestHeaderModifier)
		case f.Type == kinds.FilterResponseHeaders && f.ResponseHeaderModifier != nil:
			out.Response = headers(f.ResponseHeaderModifier)
		case f.Type == kinds.FilterRedirect && f.RequestRedirect != nil:
			var err error
			if out.Redirect, err = redirect(f.RequestRedirect); err != nil {
				return nil, err
			}
		case f.Type == kinds.FilterRequestHeaders, f.Type == kinds.FilterResponseHeaders, f.Type == kinds.FilterRedirect:
			return nil, fmt.Errorf("the filter %s lacks what it is to do", f.Type)
		default:
			return nil, fmt.Errorf("the filter %s is not supported", f.Type)
		}
	}
	return out, policy.CheckFilters(out)
}

func headers(c *kinds.HeaderChange) *meshapi.HeaderChange {
	list := func(from []kinds.Header) []*meshapi.Header {
		var to []*meshapi.Header
		for _, h := range from {
			to = append(to, &meshapi.Header{Name: h.Name, Value: h.Value})
		}
		return to
	}
	return &meshapi.HeaderChange{Set: list(c.Set), Add: list(c.Add), Remove: c.Remove}
}

func redirect(r *kinds.Redirect) (*meshapi.Redirect, error) {
	out := &meshapi.Redirect{Scheme: or(r.Scheme, ""), Hostname: or(r.Hostname, "")}
	if s := out.Scheme; s != "" && s != "http" && s != "https" {
		return nil, fmt.Errorf("redirection to scheme %q: want http or https", s)
	}
	if r.Port != nil {
		if *r.Port < 1 || *r.Port > 65535 {
			return nil, fmt.Errorf("redirection to port %d, which is none", *r.Port)
		}
		out.Port = uint32(*r.Port)
	}
	if r.StatusCode != nil {
		if *r.StatusCode != http.StatusMovedPermanently && *r.StatusCode != http.StatusFound {
			return nil, fmt.Errorf("redirection with status %d: want 301 or 302", *r.StatusCode)
		}
		out.Status = uint32(*r.StatusCode)
	}
	if r.Path == nil {
		return out, nil
	}
	switch {
	case r.Path.Type == kinds.ReplaceFullPath && r.Path.ReplaceFullPath != nil:
		out.Path = *r.Path.ReplaceFullPath
	case r.Path.Type == kinds.ReplacePrefixMatch && r.Path.ReplacePrefixMatch != nil:
		out.Path, out.ReplacePrefix = *r.Path.ReplacePrefixMatch, true
	default:
		return nil, fmt.Errorf("redirection to a path of type %q lacks the path", r.Path.Type)
	}
	return out, nil
}

func timeout(t *kinds.Timeouts) (time.Duration, error) {
	if t == nil {
		return 0, nil
	}
	parse := func(name string, text *string) (time.Duration, error) {
		if text == nil {
			return 0, nil
		}
		d, err := time.ParseDuration(*text)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("timeout %s: %q is no duration", name, *text)
		}
		return d, nil
	}
	whole, err := parse("request", t.Request)
	if err != nil {
		return 0, err
	}
	backend, err := parse("backendRequest", t.BackendRequest)
	if err != nil {
		return 0, err
	}
	if whole > 0 && backend > whole {
		return 0, fmt.Errorf("timeout backendRequest of %s is longer than that of the request, %s", backend, whole)
	}
	// There are no retries, so the one try may take no longer than either.
	if whole == 0 || backend > 0 {
		return backend, nil
	}
	return whole, nil
}

func or(s *string, fallback string) string {
	if s == nil {
		return fallback
	}
	return *s
}
