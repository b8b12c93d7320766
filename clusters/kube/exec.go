package kube

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

// Exec runs a program in a container that is already there and returns what it
// wrote. The error names the program alone: argv, stdin and output may hold
// what must not reach a log. An *exec.CodeExitError in its chain has the exit code.
func (c *Client) Exec(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader) (stdout, stderr []byte, err error) {
	if len(argv) == 0 {
		return nil, nil, fmt.Errorf("exec in %s/%s: empty argv", namespace, pod)
	}
	req := c.Clientset.CoreV1().RESTClient().Post().
		Namespace(namespace).Resource("pods").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container,
			Command:   argv,
			Stdin:     stdin != nil,
			Stdout:    true,
			Stderr:    true,
		}, scheme.ParameterCodec)
	// SPDY, for Kubernetes speaks it in every version; WebSocket came with 1.29.
	executor, err := remotecommand.NewSPDYExecutor(c.Config, "POST", req.URL())
	if err != nil {
		return nil, nil, fmt.Errorf("exec %s in %s/%s: %w", path.Base(argv[0]), namespace, pod, err)
	}
	var out, errOut bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: &out, Stderr: &errOut})
	if err != nil {
		err = fmt.Errorf("exec %s in %s/%s: %w", path.Base(argv[0]), namespace, pod, err)
	}
	return out.Bytes(), errOut.Bytes(), err
}
