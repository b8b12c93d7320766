package alb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

const (
	ingressClass = "alb"
	annotation   = "alb.ingress.kubernetes.io/"
	// what AWS's gRPC health check asks for when no path is given, and the
	// grpc-status (unimplemented) by which an application answers it
	grpcCheckPath    = "/AWS.ALB/healthcheck"
	grpcCheckSuccess = "12"
)

// objects is what the cluster holds.
type objects struct {
	ingresses []*networkingv1.Ingress
	services  []*corev1.Service
	nodes     []*corev1.Node
}

// planner turns the cluster's objects into the desired load balancer.
type planner struct {
	services map[string]*corev1.Service
	groups   map[string]groupSpec
	out      desired
	problems []error
}

// plan works out the load balancer. Problems name the objects that could not
// be honoured; everything else is in the result all the same.
func plan(in objects) (desired, []error) {
	p := &planner{
		services: map[string]*corev1.Service{},
		groups:   map[string]groupSpec{},
		out:      desired{rules: map[Listener][]rule{}},
	}
	for _, s := range in.services {
		p.services[s.Namespace+"/"+s.Name] = s
	}
	for _, ing := range in.ingresses {
		if ing.Spec.IngressClassName != nil && *ing.Spec.IngressClassName == ingressClass {
			if err := p.ingress(ing); err != nil {
				p.problems = append(p.problems, fmt.Errorf("ingress %s/%s: %w", ing.Namespace, ing.Name, err))
			}
		}
	}
	for l := range p.out.rules {
		sortRules(p.out.rules[l])
	}
	for _, spec := range p.groups {
		p.out.groups = append(p.out.groups, spec)
	}
	slices.SortFunc(p.out.groups, func(a, b groupSpec) int { return cmp.Compare(a.Key, b.Key) })
	p.out.nodes = targetNodes(in.nodes)
	return p.out, p.problems
}

func (p *planner) ingress(ing *networkingv1.Ingress) error {
	if t := ing.Annotations[annotation+"target-type"]; t != "" && t != "instance" {
		return fmt.Errorf("target-type %q is not served, only instance", t)
	}
	listener := HTTP
	switch v := ing.Annotations[annotation+"backend-protocol-version"]; v {
	case "", "HTTP1":
	case "GRPC":
		listener = GRPC
	default:
		return fmt.Errorf("backend-protocol-version %q is not served, only HTTP1 and GRPC", v)
	}
	var errs []error
	add := func(host string, kind matchKind, path string, backend networkingv1.IngressBackend) {
		key, err := p.group(ing, listener, backend)
		if err != nil {
			errs = append(errs, err)
			return
		}
		source := ing.Namespace + "/" + ing.Name
		p.out.rules[listener] = append(p.out.rules[listener], newRule(host, kind, path, key, source))
	}
	for _, r := range ing.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, path := range r.HTTP.Paths {
			add(r.Host, kindOf(path.PathType), cmp.Or(path.Path, "/"), path.Backend)
		}
	}
	if ing.Spec.DefaultBackend != nil {
		add("", prefixPath, "/", *ing.Spec.DefaultBackend)
	}
	return errors.Join(errs...)
}

func kindOf(t *networkingv1.PathType) matchKind {
	switch {
	case t == nil || *t == networkingv1.PathTypeImplementationSpecific:
		return patternPath
	case *t == networkingv1.PathTypeExact:
		return exactPath
	}
	return prefixPath
}

// group adds the target group of a backend and returns its key.
func (p *planner) group(ing *networkingv1.Ingress, l Listener, backend networkingv1.IngressBackend) (string, error) {
	if backend.Service == nil {
		return "", errors.New("a backend is not a Service")
	}
	name := ing.Namespace + "/" + backend.Service.Name
	svc, ok := p.services[name]
	if !ok {
		return "", fmt.Errorf("service %s does not exist", name)
	}
	port, err := servicePort(svc, backend.Service.Port.Name, backend.Service.Port.Number)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", name, err)
	}
	check, err := checkFor(ing, svc, l, port)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", name, err)
	}
	key := fmt.Sprintf("%s:%d/%s", name, port.Port, l)
	p.groups[key] = groupSpec{Key: key, Listener: l, NodePort: port.NodePort, Check: check}
	return key, nil
}

func servicePort(svc *corev1.Service, name string, number int32) (corev1.ServicePort, error) {
	for _, sp := range svc.Spec.Ports {
		if (name != "" && sp.Name == name) || (name == "" && sp.Port == number) {
			if sp.NodePort == 0 {
				return sp, fmt.Errorf("port %d has no NodePort, which instance targets need", sp.Port)
			}
			return sp, nil
		}
	}
	return corev1.ServicePort{}, fmt.Errorf("has no port %s", cmp.Or(name, strconv.Itoa(int(number))))
}

// checkFor reads the health check annotations. A Service's own come before
// its Ingress's, and what is unsaid is as in AWS's controller.
func checkFor(ing *networkingv1.Ingress, svc *corev1.Service, l Listener, port corev1.ServicePort) (checkSpec, error) {
	read := annotations{service: svc.Annotations, ingress: ing.Annotations}
	spec := checkSpec{
		Path:        read.text("healthcheck-path", "/"),
		Port:        port.NodePort,
		Interval:    read.seconds("healthcheck-interval-seconds", 15*time.Second),
		Timeout:     read.seconds("healthcheck-timeout-seconds", 5*time.Second),
		HealthyAt:   read.count("healthy-threshold-count", 2),
		UnhealthyAt: read.count("unhealthy-threshold-count", 2),
	}
	switch where := read.text("healthcheck-port", "traffic-port"); {
	case where == "traffic-port":
		// another port of a gRPC group is checked by plain HTTP
		spec.GRPC = l == GRPC
	default:
		if number, err := strconv.ParseUint(where, 10, 16); err == nil {
			spec.Port = int32(number) // a number is a port of the node itself
		} else if sp, err := servicePort(svc, where, 0); err == nil {
			spec.Port = sp.NodePort
		} else {
			return spec, fmt.Errorf("healthcheck-port: %w", err)
		}
	}
	success := "200"
	if spec.GRPC {
		success = "0"
		if spec.Path == "/" {
			spec.Path, success = grpcCheckPath, grpcCheckSuccess
		}
	}
	var err error
	if spec.Success, err = parseCodes(read.text("success-codes", success)); err != nil {
		read.problems = append(read.problems, fmt.Errorf("success-codes: %w", err))
	}
	if spec.Path[0] != '/' {
		read.problems = append(read.problems, fmt.Errorf("healthcheck-path %q does not begin with /", spec.Path))
	}
	return spec, errors.Join(read.problems...)
}

// annotations reads values with defaults and gathers what is wrong.
type annotations struct {
	service, ingress map[string]string
	problems         []error
}

func (a *annotations) text(name, fallback string) string {
	return cmp.Or(a.service[annotation+name], a.ingress[annotation+name], fallback)
}

func (a *annotations) count(name string, fallback int) int {
	text := a.text(name, strconv.Itoa(fallback))
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 300 {
		a.problems = append(a.problems, fmt.Errorf("%s: %q is not a number from 1 to 300", name, text))
		return fallback
	}
	return n
}

func (a *annotations) seconds(name string, fallback time.Duration) time.Duration {
	return time.Duration(a.count(name, int(fallback/time.Second))) * time.Second
}

// targetNodes are the nodes fit to be targets: ready, addressed, and neither
// cordoned nor labelled as excluded from load balancers. Sorted by name.
func targetNodes(nodes []*corev1.Node) []node {
	var out []node
	for _, n := range nodes {
		_, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]
		_, controlPlane := n.Labels["node-role.kubernetes.io/control-plane"]
		if excluded || controlPlane || n.Spec.Unschedulable || n.DeletionTimestamp != nil || !isReady(n) {
			continue
		}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				out = append(out, node{Name: n.Name, IP: a.Address})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
