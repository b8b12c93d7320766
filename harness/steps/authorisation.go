package steps

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/kube"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/agent/knock"
	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

//go:embed callers.yaml.tmpl
var callerManifest string

// probeAuthorisation tries every caller at every callee from pods of their own,
// one after another, and keeps who got in, which refusals the proxies counted,
// and how soon Prometheus raised its alert. Whether that is as it should be is
// for the verdict.
type probeAuthorisation struct{ env *Env }

const (
	callerPod = "meshsim-caller"
	// callerPatience is for one caller's pod, from its making to its end, when not
	// one of its calls gets an answer.
	callerPatience = 10 * time.Minute
	// The case study gives an alert five minutes.
	alertPatience = 5*time.Minute + 30*time.Second
	// quietPatience is how long an alert of earlier attempts may take to end.
	quietPatience = 2 * time.Minute
	countPatience = 30 * time.Second // Prometheus scrapes every 5 s
	lookEvery     = 2 * time.Second
)

// caller is one identity that tries.
type caller struct {
	name    string // as the record names it
	account string
	as      string // for calls that are not TLS of the agent's own
	meshed  bool
	other   bool // in a namespace that is not the shop's
}

// identity is what its proxy shows to the callee's, "" where it has none.
func (c caller) identity() string {
	switch {
	case !c.meshed:
		return ""
	case c.other:
		return probes.IdentityName(c.account, probeNamespace)
	}
	return probes.IdentityName(c.account, shopNamespace)
}

// callers are every service, and those that nobody has declared. impostor is a
// service's account where it may not be.
func callers(services []string, impostor string) []caller {
	var all []caller
	for _, name := range services {
		all = append(all, caller{name: name, account: name, as: results.AsOwn, meshed: true})
	}
	return append(all,
		caller{name: shopNamespace + "/default", account: "default", as: results.AsWrongAccount, meshed: true},
		caller{name: probeNamespace + "/" + impostor, account: impostor, as: results.AsOtherNamespace, meshed: true, other: true},
		caller{name: impostor, account: impostor, as: results.AsPlaintext},
	)
}

// busiest is the service that may call most others.
func busiest(services []string) string {
	calls := func(name string) (n int) {
		for _, e := range shopchart.Edges() {
			if e.Caller == name {
				n++
			}
		}
		return n
	}
	return slices.MaxFunc(services, func(a, b string) int { return calls(a) - calls(b) })
}

func (s *probeAuthorisation) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("try who gets in")
	seen, err := s.probe(ctx, task.Detail)
	if err != nil {
		task.Fail(err)
		return err
	}
	in := 0
	for _, a := range seen.Attempts {
		if a.Got == results.GotIn {
			in++
		}
	}
	task.Done(fmt.Sprintf("%d of %d attempts got in", in, len(seen.Attempts)))
	return s.env.Record.Probe(results.ProbeAuthorisation, seen)
}

func (s *probeAuthorisation) probe(ctx context.Context, tell func(string, ...any)) (results.Authorisation, error) {
	pods, err := s.targets(ctx)
	if err != nil {
		return results.Authorisation{}, err
	}
	if err := s.env.Kube.RemoveNamespace(ctx, probeNamespace); err != nil {
		return results.Authorisation{}, fmt.Errorf("clear what an earlier probe left: %w", err)
	}
	alerts := probes.NewAlertWatch(s.env.Kube)
	if err := alerts.AwaitQuiet(ctx, quietPatience, lookEvery); err != nil {
		return results.Authorisation{}, err
	}
	counted, err := probes.Denials(ctx, s.env.Kube)
	if err != nil {
		return results.Authorisation{}, err
	}
	looking, stop := context.WithCancel(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		alerts.Watch(looking, lookEvery)
	}()
	defer func() {
		stop()
		<-watching
	}()

	var seen results.Authorisation
	all := callers(s.env.Rollout.Services, busiest(s.env.Rollout.Services))
	for i, c := range all {
		tell("%s, %s (%d of %d)", c.name, c.as, i+1, len(all))
		got, err := s.knock(ctx, c, pods)
		if err != nil {
			return seen, fmt.Errorf("try as %s (%s): %w", c.name, c.as, err)
		}
		seen.Attempts = append(seen.Attempts, attempts(c, got)...)
	}
	after, err := probes.DenialsSince(ctx, s.env.Kube, counted, refusals(seen.Attempts), countPatience, lookEvery)
	if err != nil {
		return seen, err
	}
	tell("wait for the alert")
	if err := alerts.Await(ctx, refusedCallees(seen.Attempts), alertPatience, lookEvery); err != nil {
		return seen, err
	}
	join(seen.Attempts, after, alerts.Fired())
	return seen, nil
}

// targets is a pod's address of every service.
func (s *probeAuthorisation) targets(ctx context.Context) (map[string]string, error) {
	pods := map[string]string{}
	for _, name := range s.env.Rollout.Services {
		pod, err := runningPod(ctx, s.env.Kube.Clientset, name)
		if err != nil {
			return nil, err
		}
		pods[name] = pod.Status.PodIP
	}
	return pods, nil
}

// runningPod is one pod of a service.
func runningPod(ctx context.Context, client kubernetes.Interface, service string) (*corev1.Pod, error) {
	list, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + service})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", service, err)
	}
	i := slices.IndexFunc(list.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && p.Status.PodIP != ""
	})
	if i < 0 {
		return nil, fmt.Errorf("%s has no running pod", service)
	}
	return &list.Items[i], nil
}

// args are what a caller's agent tries. Where there is no proxy it goes straight
// to a pod, too, and comes with certificates that nobody trusts.
func (s *probeAuthorisation) args(c caller, pods map[string]string) []string {
	var byName, byPod []string
	for _, name := range s.env.Rollout.Services {
		byName = append(byName, fmt.Sprintf("%s=%s.%s:%d", name, name, shopNamespace, grpcPort))
		byPod = append(byPod, fmt.Sprintf("%s=%s:%d", name, pods[name], grpcPort))
	}
	if c.meshed {
		return []string{"--targets=" + strings.Join(byName, ",")}
	}
	suffix := probes.IdentityName("", shopNamespace) // what follows an account's name
	return []string{
		"--targets=" + strings.Join(append(byName, byPod...), ","), "--tls-targets=" + strings.Join(byPod, ","),
		"--name=" + probes.IdentityName(c.account, shopNamespace), "--suffix=" + suffix,
	}
}

// knock raises a caller's pod, waits for what its agent says, and removes it.
func (s *probeAuthorisation) knock(ctx context.Context, c caller, pods map[string]string) (got []knock.Result, err error) {
	namespace := shopNamespace
	if c.other {
		namespace = probeNamespace
	}
	image, err := s.env.Stack.Images.Image("agent")
	if err != nil {
		return nil, err
	}
	text, err := render(callerManifest, map[string]any{
		"Namespace": namespace, "OwnNamespace": c.other, "Account": c.account, "Pod": callerPod, "Meshed": c.meshed,
		"Image": image.Ref, "Args": s.args(c, pods),
	})
	if err != nil {
		return nil, err
	}
	if err := removePod(ctx, s.env.Kube, namespace, callerPod); err != nil {
		return nil, err
	}
	if err := s.env.Kube.Apply(ctx, text, namespace); err != nil {
		return nil, fmt.Errorf("raise the caller: %w", err)
	}
	defer func() {
		gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		rerr := removePod(gone, s.env.Kube, namespace, callerPod)
		if c.other {
			rerr = s.env.Kube.Clientset.CoreV1().Namespaces().Delete(gone, namespace, metav1.DeleteOptions{})
		}
		if rerr != nil && err == nil {
			err = fmt.Errorf("remove the caller: %w", rerr)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, callerPatience, fmt.Errorf("the caller did not end within %s", callerPatience))
	defer cancel()
	err = agentResult(ctx, s.env.Kube, namespace, callerPod, &got)
	return got, err
}

func removePod(ctx context.Context, client *kube.Client, namespace, name string) error {
	pods := client.Clientset.CoreV1().Pods(namespace)
	now := int64(0)
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove pod %s/%s: %w", namespace, name, err)
	}
	return client.WaitGone(ctx, "pod "+name, func(ctx context.Context) error {
		_, err := pods.Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

// outcomeOf is an agent's outcome as the record has it.
func outcomeOf(got plaintext.Outcome) string {
	switch got {
	case plaintext.Accepted:
		return results.GotIn
	case plaintext.Refused:
		return results.GotOut
	}
	return results.GotNoWord
}

// attempts puts down what a caller's calls came to.
func attempts(c caller, got []knock.Result) []results.Attempt {
	var all []results.Attempt
	for _, r := range got {
		as := c.as
		switch r.Way {
		case knock.Foreign:
			as = results.AsForeign
		case knock.Expired:
			as = results.AsExpired
		}
		allowed := as == results.AsOwn && shopchart.Allowed(c.account, r.Target)
		a := results.Attempt{Caller: c.name, Callee: r.Target, As: as, Client: c.identity(), Allowed: &allowed, Got: outcomeOf(r.Got), Detail: r.Why, At: r.At, To: r.Addr}
		a.Unasked = a.Got == results.GotOut && r.Way != knock.Plain && !strings.Contains(r.Why, codes.PermissionDenied.String())
		all = append(all, a)
	}
	return all
}

// denied tells whether the callee's proxy is to have counted the refusal.
func denied(a results.Attempt) bool { return a.Got == results.GotOut && !a.Unasked }

// denialOf is where a refusal is counted.
func denialOf(a results.Attempt) probes.Denial {
	return probes.Denial{Callee: a.Callee, Client: a.Client}
}

// refusals counts those by callee and caller.
func refusals(all []results.Attempt) map[probes.Denial]int {
	n := map[probes.Denial]int{}
	for _, a := range all {
		if denied(a) {
			n[denialOf(a)]++
		}
	}
	return n
}

func refusedCallees(all []results.Attempt) []string {
	var names []string
	for of := range refusals(all) {
		names = append(names, of.Callee)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// join adds to each refusal whether its callee's counter of that caller grew by
// as much as there were, and when the alert on that callee fired. A callee whose
// alert was there before says nothing; nor does one that seems to come before the
// first attempt, as the clocks of two nodes differ by more than it took.
func join(all []results.Attempt, counted map[probes.Denial]int, fired map[string]time.Time) {
	wanted := refusals(all)
	first := map[string]time.Time{}
	for _, a := range all {
		if at, ok := first[a.Callee]; denied(a) && (!ok || a.At.Before(at)) {
			first[a.Callee] = a.At
		}
	}
	for i := range all {
		a := &all[i]
		if !denied(*a) {
			continue
		}
		enough := counted[denialOf(*a)] >= wanted[denialOf(*a)]
		a.Counted = &enough
		never := int64(-1)
		a.AlertedAfterMs = &never
		if at, ok := fired[a.Callee]; ok {
			if at.IsZero() || at.Before(first[a.Callee]) {
				a.AlertedAfterMs = nil
				continue
			}
			after := max(0, at.Sub(a.At).Milliseconds())
			a.AlertedAfterMs = &after
		}
	}
}
