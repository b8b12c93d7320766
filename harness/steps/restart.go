package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"

	"meshsim.dev/meshsim/clusters/pause"
)

const (
	restartPatience = 3 * time.Minute
	restartLook     = 500 * time.Millisecond
)

// restartPod deletes a pod that its controller makes anew under the same name.
// back says what is wrong until its successor is there; whose names it in errors.
func restartPod(ctx context.Context, pods typed.PodInterface, name, whose string) (back func() error, err error) {
	old, err := pods.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", whose, err)
	}
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return nil, fmt.Errorf("delete %s: %w", whose, err)
	}
	return func() error {
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && pod.UID == old.UID {
			return errors.New("the new pod is not there yet")
		}
		return err
	}, nil
}

// after tries until try succeeds and returns when that was since start, below
// zero when it did not within restartPatience. Only the end of ctx is an error.
func after(ctx context.Context, start time.Time, try func() error) (ms int64, err error) {
	for {
		if try() == nil {
			return time.Since(start).Milliseconds(), nil
		}
		if time.Since(start) > restartPatience {
			return -1, nil
		}
		if err := pause.For(ctx, restartLook); err != nil {
			return -1, err
		}
	}
}
