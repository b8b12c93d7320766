package steps

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/pause"
)

// probeNamespace holds the agents' pods while a step needs them.
const probeNamespace = "meshsim-probe"

//go:embed twins.yaml.tmpl
var twinsManifest string

//go:embed stranger.yaml.tmpl
var strangerManifest string

// agentManifest is what the manifests are filled with.
type agentManifest struct {
	Namespace string
	Image     string
	Args      []string // of the agent that is waited for
}

// agentRun raises a manifest, waits until the agent in pod ends, decodes the
// JSON it printed, and removes everything again.
func agentRun(ctx context.Context, env *Env, manifest, pod string, args []string, patience time.Duration, into any) error {
	image, err := env.Stack.Images.Image("agent")
	if err != nil {
		return err
	}
	text, err := render(manifest, agentManifest{Namespace: probeNamespace, Image: image.Ref, Args: args})
	if err != nil {
		return err
	}
	if err := clearProbes(ctx, env); err != nil {
		return err
	}
	return runRendered(ctx, env, text, pod, patience, into)
}

func clearProbes(ctx context.Context, env *Env) error {
	if err := env.Kube.RemoveNamespace(ctx, probeNamespace); err != nil {
		return fmt.Errorf("clear what an earlier probe left: %w", err)
	}
	return nil
}

// runRendered is agentRun for a manifest that is filled in, in a namespace that
// nothing of an earlier probe is in.
func runRendered(ctx context.Context, env *Env, text []byte, pod string, patience time.Duration, into any) (err error) {
	defer func() {
		// Also when interrupted; only asked for, as it takes a while.
		gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if derr := env.Kube.Clientset.CoreV1().Namespaces().Delete(gone, probeNamespace, metav1.DeleteOptions{}); derr != nil && err == nil {
			err = fmt.Errorf("remove the agents: %w", derr)
		}
	}()
	if err := env.Kube.Apply(ctx, text, probeNamespace); err != nil {
		return fmt.Errorf("raise the agents: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the agent did not end within %s", patience))
	defer cancel()
	return agentResult(ctx, env.Kube, probeNamespace, pod, into)
}

// agentResult waits until the agent in pod ends, and decodes the JSON that it
// printed.
func agentResult(ctx context.Context, client *kube.Client, namespace, pod string, into any) error {
	if err := awaitAgent(ctx, client, namespace, pod); err != nil {
		return err
	}
	out, err := client.Logs(ctx, namespace, pod, "agent")
	if err != nil {
		return fmt.Errorf("read the agent's result: %w", err)
	}
	if err := json.Unmarshal(lastLine(out), into); err != nil {
		return fmt.Errorf("read the agent's result: %w", err)
	}
	return nil
}

func render(manifest string, with any) ([]byte, error) {
	t, err := template.New("agents").Parse(manifest)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, with)
	return b.Bytes(), err
}

// awaitAgent waits until the container agent of pod has ended well. The proxy
// beside it goes on, so the pod itself never completes.
func awaitAgent(ctx context.Context, client *kube.Client, namespace, name string) error {
	state := "the pod is not there"
	for {
		pod, err := client.Clientset.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			state = "the pod is " + string(pod.Status.Phase)
			if t := ended(pod, "agent"); t != nil {
				if t.ExitCode == 0 {
					return nil
				}
				out, _ := client.Logs(ctx, namespace, name, "agent")
				return fmt.Errorf("the agent in %s ended with exit code %d: %s", name, t.ExitCode, lastLine(out))
			}
		}
		if sleepErr := pause.For(ctx, 500*time.Millisecond); sleepErr != nil {
			return fmt.Errorf("wait for the agent in %s (%s): %w", name, state, context.Cause(ctx))
		}
	}
}

func ended(pod *corev1.Pod, container string) *corev1.ContainerStateTerminated {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == container {
			return s.State.Terminated
		}
	}
	return nil
}

func lastLine(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:]
}
