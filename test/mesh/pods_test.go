//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshsim.dev/meshsim/clusters/stack"
)

// podScenes look at pods as the injector makes them. They are asked for in a
// dry run, which calls the webhook and starts nothing.
func podScenes() []scene {
	return []scene{{name: "pod", rows: []row{
		{
			id: "IP1", says: "An injected pod has linkerd-init and linkerd-proxy, the proxy first while await is on",
			expected: "init container linkerd-init; containers linkerd-proxy, app; with proxy-await: disabled the application need not wait",
			check:    podContainers,
		},
		{
			id: "IP2", says: "The proxy's ports and probes",
			expected: "4143 linkerd-proxy, 4191 linkerd-admin; readiness /ready and liveness /live on 4191", check: podPorts,
		},
		{
			id: "IP3", says: "The volumes, and the token that proves who the pod is",
			expected: "linkerd-identity-end-entity, linkerd-identity-token (audience identity.l5d.io, 86400 s), linkerd-proxy-init-xtables-lock",
			check:    podVolumes,
		},
		{
			id: "IP4", says: "The labels, with one for whatever owns the pod",
			expected: "control-plane-ns, workload-ns, and proxy-deployment, -statefulset, -daemonset, -job, -replicaset, -replicationcontroller",
			check:    podLabels,
		},
		{
			id: "IP5", says: "The annotations that are written",
			expected: "linkerd.io/created-by, proxy-version, trust-root-sha256 (64 hexadecimal digits)", check: podAnnotations,
		},
		{
			id: "IP6", says: "The proxy runs without privilege, linkerd-init with two capabilities",
			expected: "UID 2102, read-only root, no privilege escalation; NET_ADMIN and NET_RAW only in linkerd-init", check: podSecurity,
		},
		{
			id: "IP7", says: "linkerd.io/inject is read from the pod, else from its namespace",
			expected: "enabled and ingress inject; disabled and nothing do not; the pod's own word wins", check: podInject,
		},
		{
			id: "IP8", says: "The config annotations change the proxy, from the pod or from its namespace",
			expected: "proxy-cpu-request, proxy-memory-limit, proxy-log-level and proxy-wait-before-exit-seconds take effect; the pod's own win",
			check:    podConfig,
		},
		{
			id: "IP9", says: "The proxy holds the anchors of the ConfigMap",
			expected: "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS is ca-bundle.crt", check: podAnchors,
		},
		{
			id: "IP10", says: "The injector is asked about Services: opaque ports come down from the namespace",
			expected: "a Service made in an annotated namespace has config.linkerd.io/opaque-ports", check: podServices,
		},
	}}}
}

// plain is a pod of one container, as a user would write it.
func (l *lab) plain(edits ...edit) *corev1.Pod {
	p := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: l.image, Args: []string{"hold"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: portHTTP}},
		}}},
	}
	for _, e := range edits {
		e(&p)
	}
	return &corev1.Pod{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
}

// injected is a pod as the injector makes it, and its proxy.
func (l *lab) injected(ctx context.Context, edits ...edit) (*corev1.Pod, *corev1.Container, error) {
	pod, err := l.dryRun(ctx, l.ns, l.plain(append([]edit{meshed}, edits...)...))
	if err != nil {
		return nil, nil, err
	}
	proxy := container(pod, proxyName)
	if proxy == nil {
		return nil, nil, fmt.Errorf("the pod has no %s", proxyName)
	}
	return pod, proxy, nil
}

func container(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func names(list []corev1.Container) []string {
	var all []string
	for _, c := range list {
		all = append(all, c.Name)
	}
	return all
}

func podContainers(ctx context.Context, l *lab) (string, error) {
	pod, proxy, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("init %v, containers %v", names(pod.Spec.InitContainers), names(pod.Spec.Containers))
	if !slices.Equal(names(pod.Spec.InitContainers), []string{initName}) || !slices.Equal(names(pod.Spec.Containers), []string{proxyName, "app"}) {
		return seen, errors.New("the containers or their order are others")
	}
	if proxy.Lifecycle == nil || proxy.Lifecycle.PostStart == nil {
		return seen, errors.New("nothing holds the application until the proxy is ready: there is no postStart")
	}
	_, proxy, err = l.injected(ctx, annotate("config.linkerd.io/proxy-await", "disabled"))
	if err != nil {
		return seen, err
	}
	if proxy.Lifecycle != nil && proxy.Lifecycle.PostStart != nil {
		return seen, errors.New("with proxy-await: disabled there still is a postStart")
	}
	return seen + "; await by postStart, none when disabled", nil
}

func podPorts(ctx context.Context, l *lab) (string, error) {
	_, proxy, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	var seen []string
	ports := map[string]int32{}
	for _, p := range proxy.Ports {
		ports[p.Name] = p.ContainerPort
		seen = append(seen, fmt.Sprintf("%s %d", p.Name, p.ContainerPort))
	}
	if ports["linkerd-proxy"] != 4143 || ports["linkerd-admin"] != 4191 {
		return strings.Join(seen, ", "), errors.New("the ports are others")
	}
	for path, probe := range map[string]*corev1.Probe{"/live": proxy.LivenessProbe, "/ready": proxy.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port != intstr.FromInt32(4191) {
			return strings.Join(seen, ", "), fmt.Errorf("there is no httpGet probe of %s on 4191", path)
		}
		seen = append(seen, "probe "+path)
	}
	return strings.Join(seen, ", "), nil
}

func podVolumes(ctx context.Context, l *lab) (string, error) {
	pod, _, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	var seen []string
	volumes := map[string]corev1.Volume{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = v
		seen = append(seen, v.Name)
	}
	text := strings.Join(seen, ", ")
	for _, name := range []string{"linkerd-identity-end-entity", "linkerd-proxy-init-xtables-lock"} {
		if volumes[name].EmptyDir == nil {
			return text, fmt.Errorf("there is no emptyDir %s", name)
		}
	}
	token := volumes["linkerd-identity-token"].Projected
	if token == nil {
		return text, errors.New("linkerd-identity-token is not projected")
	}
	for _, source := range token.Sources {
		t := source.ServiceAccountToken
		if t != nil && t.Audience == "identity.l5d.io" && t.ExpirationSeconds != nil && *t.ExpirationSeconds == 86400 {
			return text + "; token for identity.l5d.io, 86400 s", nil
		}
	}
	return text, errors.New("the token's audience or life is another")
}

func podLabels(ctx context.Context, l *lab) (string, error) {
	owners, err := l.owners(ctx)
	if err != nil {
		return "", fmt.Errorf("make owners: %w", err)
	}
	var seen []string
	for _, o := range owners {
		pod, _, err := l.injected(ctx, func(p *corev1.PodTemplateSpec) { p.OwnerReferences = []metav1.OwnerReference{o.ref} })
		if err != nil {
			return strings.Join(seen, ", "), err
		}
		for label, want := range map[string]string{
			"linkerd.io/control-plane-ns": stack.NamespaceMesh, "linkerd.io/workload-ns": l.ns, "linkerd.io/proxy-" + o.kind: o.name,
		} {
			if pod.Labels[label] != want {
				return strings.Join(seen, ", "), fmt.Errorf("pod of a %s: label %s is %q, not %q", o.kind, label, pod.Labels[label], want)
			}
		}
		seen = append(seen, fmt.Sprintf("linkerd.io/proxy-%s=%s", o.kind, o.name))
	}
	return strings.Join(seen, ", "), nil
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func podAnnotations(ctx context.Context, l *lab) (string, error) {
	pod, _, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	by, version, root := pod.Annotations["linkerd.io/created-by"], pod.Annotations["linkerd.io/proxy-version"], pod.Annotations["linkerd.io/trust-root-sha256"]
	seen := fmt.Sprintf("created-by %q, proxy-version %q, trust-root-sha256 %s", by, version, root)
	if !strings.HasPrefix(by, "linkerd/proxy-injector ") || version == "" || !hexDigest.MatchString(root) {
		return seen, errors.New("an annotation is missing or of another form")
	}
	return seen, nil
}

func podSecurity(ctx context.Context, l *lab) (string, error) {
	pod, proxy, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	s := proxy.SecurityContext
	if s == nil || s.RunAsUser == nil || *s.RunAsUser != 2102 || !is(s.ReadOnlyRootFilesystem, true) || !is(s.AllowPrivilegeEscalation, false) {
		return fmt.Sprintf("%+v", s), errors.New("the proxy's security context is another")
	}
	if s.Capabilities != nil && len(s.Capabilities.Add) > 0 {
		return fmt.Sprintf("%v", s.Capabilities.Add), errors.New("the proxy has capabilities")
	}
	initial := container(pod, initName).SecurityContext
	if initial == nil || initial.Capabilities == nil {
		return "", errors.New("linkerd-init says nothing of capabilities")
	}
	added := slices.Sorted(slices.Values(initial.Capabilities.Add))
	if !slices.Equal(added, []corev1.Capability{"NET_ADMIN", "NET_RAW"}) {
		return fmt.Sprintf("%v", added), errors.New("linkerd-init has other capabilities")
	}
	if is(initial.Privileged, true) {
		return "", errors.New("linkerd-init is privileged")
	}
	return fmt.Sprintf("UID 2102, read-only root; linkerd-init %v", added), nil
}

func podInject(ctx context.Context, l *lab) (string, error) {
	var seen []string
	for _, c := range []struct {
		namespace, pod string
		want           bool
	}{
		{"", "", false}, {"", "enabled", true}, {"", "ingress", true}, {"", "disabled", false},
		{"enabled", "", true}, {"enabled", "disabled", false}, {"disabled", "enabled", true},
	} {
		if err := l.annotateNamespace(ctx, map[string]string{annotationInject: c.namespace}); err != nil {
			return strings.Join(seen, "; "), err
		}
		var edits []edit
		if c.pod != "" {
			edits = append(edits, annotate(annotationInject, c.pod))
		}
		line := fmt.Sprintf("namespace %q pod %q: %t", c.namespace, c.pod, c.want)
		// The injector may still know the namespace as it was.
		err := eventually(ctx, settleWithin, func(ctx context.Context) error {
			pod, err := l.dryRun(ctx, l.ns, l.plain(edits...))
			if err == nil && hasContainer(pod, proxyName) != c.want {
				err = errors.New("it is not so")
			}
			return err
		})
		if err != nil {
			return strings.Join(seen, "; "), fmt.Errorf("%s: %w", line, err)
		}
		seen = append(seen, line)
	}
	return strings.Join(seen, "; "), l.annotateNamespace(ctx, map[string]string{annotationInject: ""})
}

func podConfig(ctx context.Context, l *lab) (string, error) {
	const prefix = "config.linkerd.io/"
	// Nothing else is known to be in the namespace's annotations when the first
	// pod is asked for, so it is asked for until they have arrived.
	namespaced := map[string]string{prefix + "proxy-cpu-request": "77m", prefix + "proxy-log-level": "warn,linkerd=debug", annotationWait: "7"}
	if err := l.annotateNamespace(ctx, namespaced); err != nil {
		return "", err
	}
	var pod *corev1.Pod
	var proxy *corev1.Container
	err := eventually(ctx, settleWithin, func(ctx context.Context) error {
		var err error
		pod, proxy, err = l.injected(ctx, annotate(prefix+"proxy-memory-limit", "123Mi"), annotate(prefix+"proxy-log-level", "error"))
		if err != nil {
			return err
		}
		if got := proxy.Resources.Requests.Cpu().String(); got != "77m" {
			return fmt.Errorf("the proxy requests CPU %s, not the namespace's 77m", got)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("CPU request %s, memory limit %s, log level %q, preStop %v", proxy.Resources.Requests.Cpu(),
		proxy.Resources.Limits.Memory(), envOf(proxy, "LINKERD2_PROXY_LOG"), preStop(proxy))
	switch {
	case proxy.Resources.Limits.Memory().String() != "123Mi":
		return seen, errors.New("the pod's own memory limit is not there")
	case envOf(proxy, "LINKERD2_PROXY_LOG") != "error":
		return seen, errors.New("the pod's own log level does not win")
	case !slices.ContainsFunc(preStop(proxy), func(word string) bool { return strings.Contains(word, "7") }):
		return seen, errors.New("the proxy does not wait 7 s before it ends")
	case pod.Annotations[prefix+"proxy-cpu-request"] != "77m":
		return seen, errors.New("the pod does not keep what its namespace said")
	}
	return seen, l.annotateNamespace(ctx, map[string]string{prefix + "proxy-cpu-request": "", prefix + "proxy-log-level": "", annotationWait: ""})
}

func envOf(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func preStop(c *corev1.Container) []string {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Exec == nil {
		return nil
	}
	return c.Lifecycle.PreStop.Exec.Command
}

func podAnchors(ctx context.Context, l *lab) (string, error) {
	_, proxy, err := l.injected(ctx)
	if err != nil {
		return "", err
	}
	anchors, err := l.anchors(ctx)
	if err != nil {
		return "", err
	}
	held := strings.TrimSpace(envOf(proxy, "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS"))
	if held != strings.TrimSpace(string(anchors)) {
		return fmt.Sprintf("%d bytes in the proxy, %d in the ConfigMap", len(held), len(anchors)), errors.New("they differ")
	}
	return fmt.Sprintf("the same %d bytes", len(held)), nil
}
