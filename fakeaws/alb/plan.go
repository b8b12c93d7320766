package alb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

const (
	ingressClass = "alb"
	// what AWS's gRPC health check asks for when no path is given, and the
	// grpc-status (unimplemented) by which an application answers it
	grpcCheckPath    = "/AWS.ALB/healthcheck"
	grpcCheckSuccess = "12"
)

// objects is what the cluster holds.
type objects struct {
	ingresses []*networkingv1.Ingress
	services  []*corev1.Service
	slices    []*discoveryv1.EndpointSlice
	nodes     []*corev1.Node
}

// policy is how the load balancer takes what objects leave open.
type policy struct {
	targetType TargetType                       // of an Ingress that names none
	settings   settings                         // of a load balancer that no Ingress says anything about
	unusable   func(netip.Addr) (reason string) // why a pod cannot be reached, "" when it can
	// gated tells whether only its readiness gates keep a pod from being ready;
	// nil where there are none.
	gated func(namespace, pod string) bool
}

// planner turns the cluster's objects into the desired load balancer.
type planner struct {
	policy
	services map[string]*corev1.Service
	slices   map[string][]*discoveryv1.EndpointSlice // by namespace/service
	zones    map[string]string                       // by node
	ready    map[string]bool                         // by node
	nodes    []endpoint                              // fit for instance targets, without ports
	groups   map[string]desiredGroup
	out      desired
	said     map[string]string // by whom a setting was made
	problems []error
}

// plan works out the load balancer. Problems name the objects that could not
// be honoured; everything else is in the result all the same.
func plan(in objects, how policy) (desired, []error) {
	p := &planner{
		policy:   how,
		services: map[string]*corev1.Service{},
		slices:   map[string][]*discoveryv1.EndpointSlice{},
		zones:    map[string]string{},
		ready:    map[string]bool{},
		groups:   map[string]desiredGroup{},
		out:      desired{rules: map[Listener][]rule{}, settings: how.settings},
		said:     map[string]string{},
	}
	p.index(in)
	for _, ing := range in.ingresses {
		if ing.Spec.IngressClassName != nil && *ing.Spec.IngressClassName == ingressClass {
			if err := p.ingress(ing); err != nil {
				p.problems = append(p.problems, fmt.Errorf("ingress %s/%s: %w", ing.Namespace, ing.Name, err))
			}
		}
	}
	for _, rules := range p.out.rules {
		sortRules(rules)
		for i := range rules {
			rules[i].priority = i + 1
		}
	}
	for _, g := range p.groups {
		g.spec.Idle = p.out.Idle
		p.out.groups = append(p.out.groups, g)
	}
	slices.SortFunc(p.out.groups, func(a, b desiredGroup) int { return cmp.Compare(a.spec.Key, b.spec.Key) })
	return p.out, p.problems
}

func (p *planner) index(in objects) {
	for _, s := range in.services {
		p.services[s.Namespace+"/"+s.Name] = s
	}
	for _, s := range in.slices {
		key := s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
		p.slices[key] = append(p.slices[key], s)
	}
	for _, n := range in.nodes {
		p.zones[n.Name], p.ready[n.Name] = n.Labels[corev1.LabelTopologyZone], isReady(n)
	}
	p.nodes = targetNodes(in.nodes)
	for _, n := range p.nodes {
		if n.Zone != "" && !slices.Contains(p.out.zones, n.Zone) {
			p.out.zones = append(p.out.zones, n.Zone)
		}
	}
	slices.Sort(p.out.zones)
}

func (p *planner) ingress(ing *networkingv1.Ingress) error {
	read := annotations{ingress: ing.Annotations}
	listener := map[string]Listener{"HTTP1": HTTP, "GRPC": GRPC}[read.oneOf("backend-protocol-version", "HTTP1", "HTTP1", "GRPC")]
	p.settle(ing, &read)
	errs := read.problems
	if listener == "" {
		return errors.Join(errs...)
	}
	add := func(host string, kind matchKind, path string, backend networkingv1.IngressBackend) {
		name, err := p.group(ing, listener, backend)
		if err != nil {
			errs = append(errs, err)
			return
		}
		source := ing.Namespace + "/" + ing.Name
		p.out.rules[listener] = append(p.out.rules[listener], newRule(host, kind, path, name, source))
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

// settle takes an Ingress's settings of the load balancer, which all have in
// common: two that differ are a problem, and the first is taken.
func (p *planner) settle(ing *networkingv1.Ingress, read *annotations) {
	text := read.text("load-balancer-attributes", "")
	pairs, _ := parsePairs(text) // read says what is wrong with it
	for key, value := range pairs {
		if before, ok := p.said[key]; ok && before != value {
			read.fail("load-balancer-attributes", fmt.Errorf("%s: %q here and %q elsewhere", key, value, before))
			return
		}
	}
	before := len(read.problems)
	if got := read.settings(p.out.settings); len(read.problems) == before {
		p.out.settings = got
		for key, value := range pairs {
			p.said[key] = value
		}
	}
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

// group adds the target group of a backend and returns its name.
func (p *planner) group(ing *networkingv1.Ingress, l Listener, backend networkingv1.IngressBackend) (string, error) {
	if backend.Service == nil {
		return "", errors.New("a backend is not a Service")
	}
	service := ing.Namespace + "/" + backend.Service.Name
	svc, ok := p.services[service]
	if !ok {
		return "", fmt.Errorf("service %s does not exist", service)
	}
	port, err := servicePort(svc, backend.Service.Port.Name, backend.Service.Port.Number)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", service, err)
	}
	read := annotations{service: svc.Annotations, ingress: ing.Annotations}
	spec := groupSpec{
		Key:      fmt.Sprintf("%s/%s/%s:%d", ing.Namespace, ing.Name, svc.Name, port.Port),
		Service:  service,
		Listener: l,
		Type:     TargetType(read.oneOf("target-type", string(p.targetType), string(InstanceTargets), string(IPTargets))),
		TLS:      read.oneOf("backend-protocol", "HTTP", "HTTP", "HTTPS") == "HTTPS",
	}
	spec.Check = read.check(l, spec.TLS)
	spec.attributes = read.attributes()
	checkPort, err := checkPort(svc, spec.Type, read.text("healthcheck-port", trafficPort))
	if err != nil {
		read.fail("healthcheck-port", err)
	}
	if spec.Type == InstanceTargets && port.NodePort == 0 {
		read.problems = append(read.problems, fmt.Errorf("port %d has no NodePort, which instance targets need", port.Port))
	}
	if err := errors.Join(read.problems...); err != nil {
		return "", fmt.Errorf("service %s: %w", service, err)
	}
	spec.Name = groupName(ing.Namespace, svc.Name, spec, port.Port)
	p.groups[spec.Name] = desiredGroup{spec: spec, endpoints: p.endpoints(svc, port, spec.Type, checkPort)}
	return spec.Name, nil
}

var notAlphanumeric = regexp.MustCompile(`[^[:alnum:]]`)

// groupName has the form of AWS's controller's, and like there it differs
// where a target group cannot be changed into the other.
func groupName(namespace, service string, spec groupSpec, port int32) string {
	plain := func(s string) string { return notAlphanumeric.ReplaceAllString(s, "") }
	id := hash(10, spec.Key, string(spec.Listener), string(spec.Type), strconv.FormatBool(spec.TLS), strconv.Itoa(int(port)))
	return fmt.Sprintf("k8s-%.8s-%.8s-%s", plain(namespace), plain(service), id)
}

func servicePort(svc *corev1.Service, name string, number int32) (corev1.ServicePort, error) {
	for _, sp := range svc.Spec.Ports {
		if (name != "" && sp.Name == name) || (name == "" && sp.Port == number) {
			return sp, nil
		}
	}
	return corev1.ServicePort{}, fmt.Errorf("has no port %s", cmp.Or(name, strconv.Itoa(int(number))))
}

// check reads how targets are checked. What is unsaid is as in AWS's
// controller; intervals may be shorter than AWS's 5 seconds.
func (a *annotations) check(l Listener, secure bool) checkSpec {
	protocol := "HTTP"
	if secure {
		protocol = "HTTPS"
	}
	spec := checkSpec{
		Path:        a.text("healthcheck-path", "/"),
		GRPC:        l == GRPC,
		TLS:         a.oneOf("healthcheck-protocol", protocol, "HTTP", "HTTPS") == "HTTPS",
		Interval:    a.seconds("healthcheck-interval-seconds", 15*time.Second),
		Timeout:     a.seconds("healthcheck-timeout-seconds", 5*time.Second),
		HealthyAt:   a.count("healthy-threshold-count", 2, 10),
		UnhealthyAt: a.count("unhealthy-threshold-count", 2, 10),
	}
	success, low, high := "200", 200, 499
	if spec.GRPC {
		success, low, high = "0", 0, 99
		if spec.Path == "/" {
			spec.Path, success = grpcCheckPath, grpcCheckSuccess
		}
	}
	var err error
	if spec.Success, err = parseCodes(a.text("success-codes", success), low, high); err != nil {
		a.fail("success-codes", err)
	}
	if spec.Path[0] != '/' {
		a.fail("healthcheck-path", fmt.Errorf("%q does not begin with /", spec.Path))
	}
	return spec
}
