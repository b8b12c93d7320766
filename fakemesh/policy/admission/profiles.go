package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"meshsim.dev/meshsim/fakemesh/admit"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// Profiles reviews ServiceProfiles. Proxies of the stand-in do not go by them.
type Profiles struct{ Log *slog.Logger }

// Review implements admit.Review.
func (p *Profiles) Review(_ context.Context, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if req.Operation == admissionv1.Delete || req.Kind.Kind != "ServiceProfile" {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	if err := decoded(req.Object.Raw, checkProfile); err != nil {
		p.Log.Info("denied", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name, "error", err)
		return admit.Refuse(http.StatusForbidden, err)
	}
	return &admissionv1.AdmissionResponse{Allowed: true}
}

type profile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              struct {
		Routes       []profileRoute `json:"routes"`
		RetryBudget  *retryBudget   `json:"retryBudget"`
		DstOverrides []struct {
			Authority string `json:"authority"`
			Weight    any    `json:"weight"`
		} `json:"dstOverrides"`
		OpaquePorts []string `json:"opaquePorts"`
	} `json:"spec"`
}

type profileRoute struct {
	Name            string         `json:"name"`
	Condition       *requestMatch  `json:"condition"`
	ResponseClasses []responseType `json:"responseClasses"`
	IsRetryable     bool           `json:"isRetryable"`
	Timeout         string         `json:"timeout"`
}

type requestMatch struct {
	All       []*requestMatch `json:"all"`
	Not       *requestMatch   `json:"not"`
	Any       []*requestMatch `json:"any"`
	PathRegex string          `json:"pathRegex"`
	Method    string          `json:"method"`
}

type responseType struct {
	Condition *responseMatch `json:"condition"`
	IsFailure bool           `json:"isFailure"`
}

type responseMatch struct {
	All    []*responseMatch `json:"all"`
	Not    *responseMatch   `json:"not"`
	Any    []*responseMatch `json:"any"`
	Status *struct {
		Min uint32 `json:"min"`
		Max uint32 `json:"max"`
	} `json:"status"`
}

type retryBudget struct {
	RetryRatio          float32 `json:"retryRatio"`
	MinRetriesPerSecond uint32  `json:"minRetriesPerSecond"`
	TTL                 string  `json:"ttl"`
}

func checkProfile(p *profile) error {
	if problems := validation.IsFullyQualifiedDomainName(nil, p.Name); len(problems) > 0 {
		return fmt.Errorf("the name %q is no fully qualified domain name: %s", p.Name, problems[0].Detail)
	}
	for _, r := range p.Spec.Routes {
		if err := r.check(); err != nil {
			return fmt.Errorf("route %q: %w", r.Name, err)
		}
	}
	if b := p.Spec.RetryBudget; b != nil {
		if _, err := time.ParseDuration(b.TTL); err != nil || b.RetryRatio < 0 {
			return errors.New("retryBudget: ttl must be a duration, and retryRatio not less than 0")
		}
	}
	for _, text := range p.Spec.OpaquePorts {
		if _, err := ports.Parse(text); err != nil {
			return fmt.Errorf("opaquePorts: %w", err)
		}
	}
	return nil
}

func (r *profileRoute) check() error {
	if r.Name == "" {
		return errors.New("a name is needed")
	}
	if r.Condition == nil {
		return errors.New("a condition is needed")
	}
	if r.Timeout != "" {
		if _, err := time.ParseDuration(r.Timeout); err != nil {
			return fmt.Errorf("timeout %q is no duration", r.Timeout)
		}
	}
	for _, c := range r.ResponseClasses {
		if c.Condition == nil {
			return errors.New("a response class needs a condition")
		}
		if err := c.Condition.check(); err != nil {
			return err
		}
	}
	return r.Condition.check()
}

func (m *requestMatch) check() error {
	if m.All == nil && m.Any == nil && m.Not == nil && m.PathRegex == "" && m.Method == "" {
		return errors.New("a condition says nothing")
	}
	if _, err := regexp.Compile(m.PathRegex); err != nil {
		return fmt.Errorf("pathRegex: %w", err)
	}
	parts := append(append([]*requestMatch(nil), m.All...), m.Any...)
	if m.Not != nil {
		parts = append(parts, m.Not)
	}
	for _, part := range parts {
		if part == nil {
			return errors.New("a condition says nothing")
		}
		if err := part.check(); err != nil {
			return err
		}
	}
	return nil
}

func (m *responseMatch) check() error {
	if s := m.Status; s != nil && (s.Min != 0 && (s.Min < 100 || s.Min > 599) || s.Max != 0 && (s.Max < 100 || s.Max > 599 || s.Max < s.Min)) {
		return fmt.Errorf("status %d to %d is no range of HTTP's", s.Min, s.Max)
	}
	if m.All == nil && m.Any == nil && m.Not == nil && m.Status == nil {
		return errors.New("a response class's condition says nothing")
	}
	return nil
}
