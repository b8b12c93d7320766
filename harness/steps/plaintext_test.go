package steps

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/results"
)

func TestPortsThatSkipTheProxyAreReadFromThePod(t *testing.T) {
	for skip, want := range map[string][]int{
		"8080,9091":     {8080, 9091},
		" 9091 , 25":    {9091},
		"8000-9090":     {8080, 8081, 9090},
		"":              nil,
		"x,8080-,-8080": nil,
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"config.linkerd.io/skip-inbound-ports": skip}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{ContainerPort: 9090}, {ContainerPort: 8081}, {ContainerPort: 9091}, {ContainerPort: 8080}}}}},
		}
		require.Equal(t, want, skippedPorts(pod), skip)
	}
}

func TestAnExemptPortHasLetInWhoeverItAnswered(t *testing.T) {
	seen := plaintextSeen(plaintext.Result{Attempts: 2, Refused: 2, Evidence: []string{"x"}, Exempt: []plaintext.Call{
		{Name: "product-catalog", Addr: "10.0.0.1:8080", Proto: "gRPC", Got: plaintext.Unknown, Why: "EOF"},
		{Name: "product-catalog", Addr: "10.0.0.1:8080", Proto: "HTTP/1.1", Got: plaintext.Accepted, Why: "404 Not Found"},
		{Name: "product-catalog", Addr: "10.0.0.1:9091", Proto: "gRPC", Got: plaintext.Refused, Why: "no"},
		{Name: "product-catalog", Addr: "10.0.0.1:9091", Proto: "HTTP/1.1", Got: plaintext.Unknown, Why: "EOF"},
	}})
	require.Equal(t, results.Plaintext{Attempts: 2, Refused: 2, Evidence: []string{"x"}, Exempt: []results.ExemptPort{
		{Service: "product-catalog", Port: 8080, Exempt: skipReason, Got: results.GotIn, Detail: "over HTTP/1.1: 404 Not Found"},
		{Service: "product-catalog", Port: 9091, Exempt: skipReason, Got: results.GotOut, Detail: "over gRPC: no"},
	}}, seen)
	require.Equal(t, "port 8080: anyone gets in without mTLS, as "+skipReason, seen.OpenText())
	require.Empty(t, results.Plaintext{Attempts: 16, Refused: 16}.OpenText(), "as in an older record")
}
