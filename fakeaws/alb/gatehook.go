package alb

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"meshsim.dev/meshsim/clusters/pause"
)

// Names of AWS's controller.
const (
	hookConfiguration = "aws-load-balancer-webhook"
	hookName          = "mpod.elbv2.k8s.aws"
	hookPath          = "/mutate-v1-pod"
	hookLabel         = "elbv2.k8s.aws/pod-readiness-gate-inject" // of namespaces: enabled
)

const (
	maxReview   = 8 << 20 // more than the API server stores of any object
	hookTimeout = 5       // seconds
	hookLife    = 10 * 365 * 24 * time.Hour
)

// Gates lets pods wait, as AWS's controller does, until the load balancer has
// found them healthy: pods of namespaces with the label
// elbv2.k8s.aws/pod-readiness-gate-inject=enabled get a readiness gate a target
// group of type ip.
type Gates struct {
	Listener net.Listener // of the webhook, without its TLS
	// Host is where the API server finds the listener.
	Host func(context.Context) (string, error)
}

// serve answers the API server until ctx ends.
func (g *Gates) serve(ctx context.Context, client kubernetes.Interface, hook *gateHook) error {
	host, err := g.Host(ctx)
	if err != nil {
		return fmt.Errorf("find the readiness gates' webhook: %w", err)
	}
	cert, ca, err := newHookCertificate(host, time.Now())
	if err != nil {
		return fmt.Errorf("make the readiness gates' certificate: %w", err)
	}
	door := tls.NewListener(g.Listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	served, ctx := errgroup.WithContext(ctx)
	served.Go(func() error {
		server := &http.Server{Handler: hook, ReadHeaderTimeout: hookTimeout * time.Second, IdleTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(hook.log.Handler(), slog.LevelDebug)}
		return ServeUntil(ctx, server, door)
	})
	served.Go(func() error {
		for {
			err := hook.install(ctx, client, net.JoinHostPort(host, portOf(g.Listener)), ca)
			if err == nil || ctx.Err() != nil {
				return nil
			}
			hook.log.Warn("pods get no readiness gates yet", "error", err)
			if pause.For(ctx, retryAfter) != nil {
				return nil
			}
		}
	})
	return served.Wait()
}

// gateHook gives new pods a readiness gate for every target group that they
// will be targets of.
type gateHook struct {
	table    *table
	services corelisters.ServiceLister
	log      *slog.Logger
}

// ServeHTTP answers admission reviews.
func (h *gateHook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	var review admissionv1.AdmissionReview
	if err != nil || json.Unmarshal(body, &review) != nil || review.Request == nil {
		http.Error(w, "the body is no admission review", http.StatusBadRequest)
		return
	}
	answer := h.review(review.Request)
	answer.UID = review.Request.UID
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: answer}); err != nil {
		h.log.Warn("a review was not answered", "error", err)
	}
}

// review lets every object in; what is not understood stays as it is.
func (h *gateHook) review(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	allowed := &admissionv1.AdmissionResponse{Allowed: true}
	var pod corev1.Pod
	if req.Kind.Kind != "Pod" || json.Unmarshal(req.Object.Raw, &pod) != nil {
		return allowed
	}
	gates := h.gatesOf(req.Namespace, &pod)
	if len(gates) == len(pod.Spec.ReadinessGates) {
		return allowed
	}
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/spec/readinessGates", "value": gates}}) // or replaces them
	if err != nil {
		return allowed
	}
	kind := admissionv1.PatchTypeJSONPatch
	allowed.Patch, allowed.PatchType = patch, &kind
	return allowed
}

// gatesOf are a pod's own gates and those of the groups whose Service selects it.
func (h *gateHook) gatesOf(namespace string, pod *corev1.Pod) []corev1.PodReadinessGate {
	gates := slices.Clone(pod.Spec.ReadinessGates)
	for _, g := range h.table.live.Load().groups {
		spec := g.spec.Load()
		gate := corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(gatePrefix + spec.Name)}
		if spec.Type == IPTargets && h.selects(spec.Service, namespace, pod) && !slices.Contains(gates, gate) {
			gates = append(gates, gate)
		}
	}
	slices.SortStableFunc(gates[len(pod.Spec.ReadinessGates):], func(a, b corev1.PodReadinessGate) int {
		return cmp.Compare(a.ConditionType, b.ConditionType)
	})
	return gates
}

func (h *gateHook) selects(service, namespace string, pod *corev1.Pod) bool {
	all, err := h.services.Services(namespace).List(labels.Everything())
	if err != nil {
		return false
	}
	for _, s := range all {
		if s.Namespace+"/"+s.Name == service && len(s.Spec.Selector) > 0 {
			return labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels))
		}
	}
	return false
}

// install tells the API server of the hook at an address. As with AWS's
// controller since v2.11, pods come in without gates while it is away.
func (h *gateHook) install(ctx context.Context, client kubernetes.Interface, address string, ca []byte) error {
	url := "https://" + address + hookPath
	ignore, none, equivalent := admissionregistrationv1.Ignore, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Equivalent
	timeout := int32(hookTimeout)
	want := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: hookConfiguration},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    hookName,
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: ca},
			FailurePolicy:           &ignore,
			SideEffects:             &none,
			MatchPolicy:             &equivalent,
			TimeoutSeconds:          &timeout,
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{hookLabel: "enabled"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	api := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	have, err := api.Get(ctx, hookConfiguration, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
	case err == nil:
		want.ResourceVersion = have.ResourceVersion
		_, err = api.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("install the readiness gates' webhook: %w", err)
	}
	return nil
}

// newHookCertificate is a certificate for one address that vouches for itself;
// it lives as long as the process.
func newHookCertificate(host string, now time.Time) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: hookConfiguration},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(hookLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
