package harness

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

const (
	auditRead   = `{"request":{"id":"r1","operation":"read","path":"secret/data/prod-app/a"},"time":"2026-05-04T09:00:02Z","type":"response"}`
	auditDenied = `{"error":"permission denied","request":{"id":"r2","operation":"update","path":"pki/sign/x","remote_address":"10.0.0.9"},"time":"2026-05-04T09:00:03Z","type":"response"}`
)

func testAuditTail(t *testing.T) (*auditTail, *recorder) {
	t.Helper()
	r := newTestRecorder(t)
	r.begin = time.Now().Add(-time.Minute)
	r.foresee(0, "stack", 1)
	at := func(when time.Time) int64 { return int64(when.Sub(time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC))) }
	return &auditTail{book: probes.NewAuditBook(at, r.now, r.eventAt, func(string) string { return "" })}, r
}

func TestTheLogOfVaultsPodIsReadToItsEnd(t *testing.T) {
	tail, r := testAuditTail(t)
	long := `{"request":{"id":"` + strings.Repeat("x", 2*auditLine) + `"}}`
	log := "==> Vault server started!\n" + auditRead + "\n" + long + "\n" + auditDenied // the last line has no end yet
	require.NoError(t, tail.read(io.NopCloser(strings.NewReader(log))))
	require.Equal(t, time.Date(2026, 5, 4, 9, 0, 3, 0, time.UTC), tail.last)
	seen := tail.book.Seen()
	require.Equal(t, []int64{2, 1}, []int64{seen.Requests, seen.Denied})
	require.Len(t, seen.Missed, 1)
	require.Contains(t, seen.Missed[0], "a line is longer than")

	require.NoError(t, tail.read(io.NopCloser(strings.NewReader(auditRead+"\n"))), "read again")
	require.Equal(t, int64(2), tail.book.Seen().Requests)

	require.NoError(t, r.folder.Close())
	events, _, err := r.folder.Events()
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, "stack", events[0].Phase)
	for _, e := range events {
		require.Equal(t, results.Vault, e.Kind)
		require.LessOrEqual(t, e.At, int64(time.Hour))
	}
	require.Equal(t, "10.0.0.9", events[1].Fields[results.FieldClient], "nobody knows whose address that is")
}

// cutOff is a log whose connection breaks.
type cutOff struct{ io.Reader }

func (cutOff) Close() error { return nil }
func (c cutOff) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("connection reset")
	}
	return n, err
}

func TestALogThatBreaksOffIsAnError(t *testing.T) {
	tail, _ := testAuditTail(t)
	require.EqualError(t, tail.read(cutOff{bytes.NewReader([]byte(auditRead + "\n"))}), "connection reset")
	require.Equal(t, int64(1), tail.book.Seen().Requests)
}

func vaultPod(state corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: probes.VaultPod, Namespace: probes.VaultNamespace, UID: "u-1"},
		Status: corev1.PodStatus{PodIP: "10.0.0.9", ContainerStatuses: []corev1.ContainerStatus{
			{Name: vaultContainer, State: state},
		}},
	}
}

func TestAPodThatIsGoneWithItsLogUnreadIsToldOf(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	tail, _ := testAuditTail(t)
	tail.client = fake.NewClientset()
	tail.look(t.Context())
	require.Empty(t, tail.pod, "there is no Vault yet")

	tail.client = fake.NewClientset(vaultPod(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}))
	tail.look(t.Context())
	require.Empty(t, tail.pod, "it has not begun")

	tail.client = fake.NewClientset(vaultPod(running))
	tail.look(t.Context()) // the fake's log is "fake logs"
	require.NotEmpty(t, tail.pod)
	require.Empty(t, tail.book.Seen().Missed)

	tail.pod, tail.broken = "another", true
	tail.look(t.Context())
	require.Len(t, tail.book.Seen().Missed, 1)
}

func TestReadingTheAuditLogEndsWithItsContext(t *testing.T) {
	tail, _ := testAuditTail(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tail.client = fake.NewClientset()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tail.run(ctx)
}

func TestAnAddressIsNamedAfterItsPod(t *testing.T) {
	// The fake knows no field selectors and lists all pods: one is the one.
	who := podNames(t.Context(), fake.NewClientset(vaultPod(corev1.ContainerState{})))
	require.Equal(t, "vault/vault-0", who("10.0.0.9"))
	require.Empty(t, who(""))
	other := vaultPod(corev1.ContainerState{})
	other.Name = "vault-1"
	who = podNames(t.Context(), fake.NewClientset(vaultPod(corev1.ContainerState{}), other))
	require.Empty(t, who("10.0.0.9"), "several pods share it")
}
