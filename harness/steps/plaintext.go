package steps

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/results"
)

// probePlaintext tries to call every service from a pod without a proxy: on the
// port that services call each other on, and on those that skip the proxy, which
// are to let it in.
type probePlaintext struct{ env *Env }

const (
	// grpcPort is where the shop's services call each other.
	grpcPort = 9090
	// skipAnnotation names the ports of a pod that its proxy does not see.
	skipAnnotation = "config.linkerd.io/skip-inbound-ports"
	// skipReason is why the shop's pods have such ports.
	skipReason = "the proxy is skipped for the load balancer, which has no identity"
)

func (s *probePlaintext) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("try plaintext calls")
	seen, err := s.probe(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%d refused, %d accepted of %d", seen.Refused, seen.Accepted, seen.Attempts))
	return s.env.Record.Probe(results.ProbePlaintext, seen)
}

func (s *probePlaintext) probe(ctx context.Context) (results.Plaintext, error) {
	var targets, exempt []string
	for _, name := range s.env.Rollout.Services {
		targets = append(targets, fmt.Sprintf("%s=%s.%s:%d", name, name, shopNamespace, grpcPort))
		pod, err := runningPod(ctx, s.env.Kube.Clientset, name)
		if err != nil {
			return results.Plaintext{}, err
		}
		for _, port := range skippedPorts(pod) {
			exempt = append(exempt, fmt.Sprintf("%s=%s", name, net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port))))
		}
	}
	args := []string{"--targets=" + strings.Join(targets, ",")}
	if len(exempt) > 0 {
		args = append(args, "--exempt="+strings.Join(exempt, ","))
	}
	var got plaintext.Result
	if err := agentRun(ctx, s.env, strangerManifest, "stranger", args, 5*time.Minute, &got); err != nil {
		return results.Plaintext{}, err
	}
	return plaintextSeen(got), nil
}

// skippedPorts are those of a pod's own ports that its proxy is told to skip.
func skippedPorts(pod *corev1.Pod) []int {
	var ports []int
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if skips(pod.Annotations[skipAnnotation], int(p.ContainerPort)) {
				ports = append(ports, int(p.ContainerPort))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// skips tells whether a list of ports and ranges, 8080,9000-9100, has a port.
func skips(list string, port int) bool {
	for word := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(word), "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(strings.TrimSpace(from))
		if err != nil {
			continue
		}
		if last, err := strconv.Atoi(strings.TrimSpace(to)); err == nil && first <= port && port <= last {
			return true
		}
	}
	return false
}

// plaintextSeen puts down what the calls came to. A port that skips the proxy has
// let in whoever it answered in one protocol.
func plaintextSeen(got plaintext.Result) results.Plaintext {
	seen := results.Plaintext{Attempts: got.Attempts, Refused: got.Refused, Accepted: got.Accepted, Evidence: got.Evidence}
	grave := []string{results.GotNoWord, results.GotOut, results.GotIn}
	for _, c := range got.Exempt {
		_, port, err := net.SplitHostPort(c.Addr)
		number, nerr := strconv.Atoi(port)
		if err != nil || nerr != nil {
			continue // not of ours
		}
		outcome := outcomeOf(c.Got)
		tried := results.ExemptPort{Service: c.Name, Port: number, Exempt: skipReason, Got: outcome, Detail: fmt.Sprintf("over %s: %s", c.Proto, c.Why)}
		i := slices.IndexFunc(seen.Exempt, func(e results.ExemptPort) bool { return e.Service == c.Name && e.Port == number })
		switch {
		case i < 0:
			seen.Exempt = append(seen.Exempt, tried)
		case slices.Index(grave, outcome) > slices.Index(grave, seen.Exempt[i].Got):
			seen.Exempt[i] = tried
		}
	}
	return seen
}
