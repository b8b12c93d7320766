//go:build conformance

package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack"
)

// planeScenes look at the control plane as it was installed.
func planeScenes() []scene {
	return []scene{{name: "plane", rows: []row{
		{
			id: "CP1", says: "The control plane is three Deployments with their containers and ports",
			expected: "identity 8080, 9990; destination 8086, 9996; sp-validator 8443, 9997; policy 8090, 9990, 9443; proxy-injector 8443, 9995; all ready",
			check:    planeContainers,
		},
		{
			id: "CP2", says: "Its Services have their names and ports, and pods behind them",
			expected: "linkerd-identity(-headless) 8080, linkerd-dst(-headless) 8086, linkerd-policy 8090, the three webhooks' 443",
			check:    planeServices,
		},
		{
			id: "CP3", says: "Its webhook configurations ask about what they must, and trust the certificate that is served",
			expected: "injector: CREATE pods, services; validators: CREATE, UPDATE; caBundle verifies each Secret's certificate for the Service's name",
			check:    planeWebhooks,
		},
		{
			id: "CP4", says: "Trust anchors and values are in their ConfigMaps",
			expected: "linkerd-identity-trust-roots has ca-bundle.crt with a CA; linkerd-config has values",
			check:    planeConfig,
		},
		{
			id: "CP5", says: "The issuer is a Secret of scheme kubernetes.io/tls",
			expected: "type kubernetes.io/tls; tls.crt, tls.key, ca.crt; an ECDSA P-256 CA that chains to the ConfigMap's anchors",
			check:    planeIssuer,
		},
		{
			id: "CP6", says: "The CRDs are there at their versions",
			expected: "policy.linkerd.io, gateway.networking.k8s.io and linkerd.io kinds, served as in the contract",
			check:    planeCRDs,
		},
		{
			id: "CP7", says: "A Server takes the six proxyProtocols and no other",
			expected: "unknown, HTTP/1, HTTP/2, gRPC, opaque, TLS are admitted; FTP is not",
			check:    planeProtocols,
		},
		{
			id: "CP8", says: "disableHeartBeat turns the heartbeat off",
			expected: "no CronJob linkerd-heartbeat", check: planeHeartbeat,
		},
		{
			id: "CP9", says: "enablePodDisruptionBudget gives each Deployment a budget",
			expected: "linkerd-identity, linkerd-dst, linkerd-proxy-injector: maxUnavailable 1", within: 5 * time.Minute,
			check: planeBudgets,
		},
	}}}
}

func planeContainers(ctx context.Context, l *lab) (string, error) {
	want := map[string]map[string][]int32{
		"linkerd-identity":       {"identity": {8080, 9990}},
		"linkerd-destination":    {"destination": {8086, 9996}, "sp-validator": {8443, 9997}, "policy": {8090, 9990, 9443}},
		"linkerd-proxy-injector": {"proxy-injector": {8443, 9995}},
	}
	var seen []string
	for name, containers := range want {
		d, err := l.kube.Clientset.AppsV1().Deployments(stack.NamespaceMesh).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		if d.Status.ReadyReplicas < 1 {
			return strings.Join(seen, "; "), fmt.Errorf("%s has no ready pod", name)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			var ports []int32
			for _, p := range c.Ports {
				ports = append(ports, p.ContainerPort)
			}
			seen = append(seen, fmt.Sprintf("%s/%s %v", name, c.Name, ports))
			for _, port := range containers[c.Name] {
				if !slices.Contains(ports, port) {
					return strings.Join(seen, "; "), fmt.Errorf("container %s lacks port %d", c.Name, port)
				}
			}
			delete(containers, c.Name)
		}
		for missing := range containers {
			return strings.Join(seen, "; "), fmt.Errorf("%s has no container %s", name, missing)
		}
	}
	slices.Sort(seen)
	return strings.Join(seen, "; "), nil
}

func planeServices(ctx context.Context, l *lab) (string, error) {
	var seen []string
	for _, want := range []struct {
		name     string
		port     int32
		headless bool
	}{
		{"linkerd-identity", 8080, false}, {"linkerd-identity-headless", 8080, true},
		{"linkerd-dst", 8086, false}, {"linkerd-dst-headless", 8086, true},
		{"linkerd-policy", 8090, true}, {"linkerd-proxy-injector", 443, false},
		{"linkerd-sp-validator", 443, false}, {"linkerd-policy-validator", 443, false},
	} {
		core := l.kube.Clientset.CoreV1()
		s, err := core.Services(stack.NamespaceMesh).Get(ctx, want.name, metav1.GetOptions{})
		if err != nil {
			return strings.Join(seen, ", "), err
		}
		if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == want.port }) {
			return strings.Join(seen, ", "), fmt.Errorf("%s lacks port %d", want.name, want.port)
		}
		if (s.Spec.ClusterIP == corev1.ClusterIPNone) != want.headless {
			return strings.Join(seen, ", "), fmt.Errorf("%s has cluster IP %q", want.name, s.Spec.ClusterIP)
		}
		pods, err := core.Pods(stack.NamespaceMesh).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})})
		if err != nil {
			return strings.Join(seen, ", "), err
		}
		if len(pods.Items) == 0 {
			return strings.Join(seen, ", "), fmt.Errorf("%s selects no pod", want.name)
		}
		seen = append(seen, fmt.Sprintf("%s:%d", want.name, want.port))
	}
	return strings.Join(seen, ", "), nil
}

// webhook is one entry of a webhook configuration, mutating or validating.
type webhook struct {
	name   string
	client admissionv1.WebhookClientConfig
	rules  []admissionv1.RuleWithOperations
}

// webhooks reads a configuration by its name.
func (w *world) webhooks(ctx context.Context, name string) ([]webhook, error) {
	admission := w.kube.Clientset.AdmissionregistrationV1()
	var all []webhook
	mutating, err := admission.MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		for _, h := range mutating.Webhooks {
			all = append(all, webhook{h.Name, h.ClientConfig, h.Rules})
		}
		return all, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, err
	}
	validating, err := admission.ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for _, h := range validating.Webhooks {
		all = append(all, webhook{h.Name, h.ClientConfig, h.Rules})
	}
	return all, nil
}

// asks tells whether the webhook is asked about an operation on a resource.
func (h webhook) asks(op admissionv1.OperationType, resource string) bool {
	return slices.ContainsFunc(h.rules, func(r admissionv1.RuleWithOperations) bool {
		return slices.Contains(r.Operations, op) && slices.Contains(r.Resources, resource)
	})
}

func planeWebhooks(ctx context.Context, l *lab) (string, error) {
	var seen []string
	for _, want := range []struct {
		config, service string
		ops             []admissionv1.OperationType
		resources       []string
	}{
		{"linkerd-proxy-injector-webhook-config", "linkerd-proxy-injector", []admissionv1.OperationType{admissionv1.Create}, []string{"pods", "services"}},
		{"linkerd-sp-validator-webhook-config", "linkerd-sp-validator", []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}, []string{"serviceprofiles"}},
		{"linkerd-policy-validator-webhook-config", "linkerd-policy-validator", []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
			[]string{"servers", "serverauthorizations", "authorizationpolicies", "meshtlsauthentications", "networkauthentications", "httproutes"}},
	} {
		hooks, err := l.webhooks(ctx, want.config)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		for _, op := range want.ops {
			for _, resource := range want.resources {
				if !slices.ContainsFunc(hooks, func(h webhook) bool { return h.asks(op, resource) }) {
					return strings.Join(seen, "; "), fmt.Errorf("%s does not ask about %s of %s", want.config, op, resource)
				}
			}
		}
		until, err := l.verifyWebhook(ctx, hooks, want.service)
		if err != nil {
			return strings.Join(seen, "; "), fmt.Errorf("%s: %w", want.config, err)
		}
		seen = append(seen, fmt.Sprintf("%s asks about %v, its certificate is good until %s", want.config, want.resources, until.UTC().Format(time.DateOnly)))
	}
	return strings.Join(seen, "; "), nil
}

// verifyWebhook holds the certificate in a webhook's Secret against the CA
// that the API server was given.
func (w *world) verifyWebhook(ctx context.Context, hooks []webhook, service string) (time.Time, error) {
	secret, err := w.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Get(ctx, service+"-k8s-tls", metav1.GetOptions{})
	if err != nil {
		return time.Time{}, err
	}
	if secret.Type != corev1.SecretTypeTLS {
		return time.Time{}, fmt.Errorf("secret %s is of type %s", secret.Name, secret.Type)
	}
	chain, err := parsePEM(secret.Data[corev1.TLSCertKey])
	if err != nil {
		return time.Time{}, err
	}
	for _, h := range hooks {
		if h.client.Service == nil || h.client.Service.Name != service {
			return time.Time{}, fmt.Errorf("webhook %s does not call service %s", h.name, service)
		}
		err := verify(chain, h.client.CABundle, x509.VerifyOptions{DNSName: service + "." + stack.NamespaceMesh + ".svc"})
		if err != nil {
			return time.Time{}, err
		}
	}
	return chain[0].NotAfter, nil
}

func planeConfig(ctx context.Context, l *lab) (string, error) {
	anchors, err := l.anchors(ctx)
	if err != nil {
		return "", err
	}
	certs, err := parsePEM(anchors)
	if err != nil {
		return "", err
	}
	for _, c := range certs {
		if !c.IsCA {
			return c.Subject.String(), errors.New("an anchor is no CA")
		}
	}
	config, err := l.kube.Clientset.CoreV1().ConfigMaps(stack.NamespaceMesh).Get(ctx, "linkerd-config", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if config.Data["values"] == "" {
		return "", errors.New("linkerd-config has no values")
	}
	return fmt.Sprintf("%d anchor: %s; %d bytes of values", len(certs), certs[0].Subject, len(config.Data["values"])), nil
}

func planeIssuer(ctx context.Context, l *lab) (string, error) {
	secret, err := l.issuerSecret(ctx)
	if err != nil {
		return "", err
	}
	for _, key := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if len(secret.Data[key]) == 0 {
			return "", fmt.Errorf("the Secret has no %s", key)
		}
	}
	if secret.Type != corev1.SecretTypeTLS {
		return "", fmt.Errorf("the Secret is of type %s", secret.Type)
	}
	chain, err := parsePEM(secret.Data["tls.crt"])
	if err != nil {
		return "", err
	}
	anchors, err := l.anchors(ctx)
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("%s, %s, until %s", chain[0].Subject, keyKind(chain[0]), chain[0].NotAfter.UTC().Format(time.DateOnly))
	if !chain[0].IsCA || keyKind(chain[0]) != "ECDSA P-256" {
		return seen, errors.New("it is no CA with a P-256 key")
	}
	return seen, verify(chain, anchors, x509.VerifyOptions{})
}

func planeHeartbeat(ctx context.Context, l *lab) (string, error) {
	jobs, err := l.kube.Clientset.BatchV1().CronJobs(stack.NamespaceMesh).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, j := range jobs.Items {
		return j.Name, errors.New("there is a CronJob")
	}
	return "no CronJob in " + stack.NamespaceMesh, nil
}

func planeBudgets(ctx context.Context, l *lab) (string, error) {
	if err := l.plane(ctx, map[string]any{"enablePodDisruptionBudget": true}); err != nil {
		return "", err
	}
	var seen []string
	for _, name := range []string{"linkerd-identity", "linkerd-dst", "linkerd-proxy-injector"} {
		b, err := l.kube.Clientset.PolicyV1().PodDisruptionBudgets(stack.NamespaceMesh).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return strings.Join(seen, ", "), err
		}
		if b.Spec.MaxUnavailable.IntValue() != 1 {
			return strings.Join(seen, ", "), fmt.Errorf("%s: maxUnavailable is %s", name, b.Spec.MaxUnavailable)
		}
		seen = append(seen, name+" maxUnavailable 1")
	}
	return strings.Join(seen, ", "), nil
}
