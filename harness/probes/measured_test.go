package probes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/results"
)

func TestABudgetsQueryIsAskedOverThePhase(t *testing.T) {
	prom := &answers{text: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"2.5"]},{"metric":{},"value":[1,"NaN"]}]}}`}
	got, err := Ask(context.Background(), prom, "sum(increase(x[$window])) / $window", "soak", 95*time.Second)
	require.NoError(t, err)
	require.Equal(t, "sum(increase(x[95s])) / 95s", prom.query)
	require.Equal(t, results.Answer{
		Query: "sum(increase(x[$window])) / $window", Asked: "sum(increase(x[95s])) / 95s", Phase: "soak",
		Samples: []results.Sample{{Labels: map[string]string{"pod": "a"}, Value: "2.5"}, {Labels: map[string]string{}, Value: "NaN"}},
	}, got)

	scalar, err := parseAnswer([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`))
	require.NoError(t, err)
	require.Equal(t, []results.Sample{{Value: "7"}}, scalar)
	none, err := parseAnswer([]byte(`{"status":"success","data":{"resultType":"vector","result":[]}}`))
	require.NoError(t, err)
	require.Empty(t, none)
	for text, want := range map[string]string{
		`{`:                                  "read Prometheus's answer",
		`{"status":"error","error":"parse"}`: `Prometheus answered "error": parse`,
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`:                            `answered a "matrix"`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,2]}]}}`: "has no value",
		`{"status":"success","data":{"resultType":"scalar","result":"x"}}`:                           "read a scalar",
	} {
		_, err := parseAnswer([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2"]}]}}`))
	f.Add([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1]}}`))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parseAnswer(raw) })
}

func TestProxiesUseOfCPUIsThatSinceTheLastReading(t *testing.T) {
	pod := func(name, node string, containers ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app", Labels: map[string]string{
			"app.kubernetes.io/part-of": "fakeshop", "app.kubernetes.io/name": "product-catalog"}}}
		p.Spec.NodeName = node
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		}
		return p
	}
	client := fake.NewClientset(pod("a", "one", "linkerd-proxy", "app"), pod("b", "two", "linkerd-proxy"), pod("bare", "one", "app"))
	begun := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	at, used := begun.Add(100*time.Second), uint64(5e9)
	asked := 0
	meter := NewResourceMeter(client, func(_ context.Context, node string) ([]byte, error) {
		asked++
		if node == "two" {
			return []byte(`{"pods":[]}`), nil
		}
		return fmt.Appendf(nil, `{"pods":[{"podRef":{"name":"a","namespace":"prod-app"},"containers":[
			{"name":"app","startTime":%[1]q,"cpu":{"time":%[2]q,"usageCoreNanoSeconds":1},"memory":{"workingSetBytes":1}},
			{"name":"linkerd-proxy","startTime":%[1]q,"cpu":{"time":%[2]q,"usageCoreNanoSeconds":%[3]d},"memory":{"workingSetBytes":20000000}}]}]}`,
			begun.Format(time.RFC3339), at.Format(time.RFC3339), used), nil
	})
	seen, err := meter.Read(context.Background(), "soak", 1, 2)
	require.NoError(t, err)
	require.Equal(t, 2, asked, "a node is asked once")
	mean := 0.05
	require.Equal(t, results.ProxyResources{Phase: "soak", From: 1, To: 2, Silent: []string{"b"}, Proxies: []results.ProxyUsage{
		{Pod: "a", Service: "product-catalog", MemoryBytes: 20_000_000, Cores: &mean}}}, seen)
	at, used = at.Add(10*time.Second), used+2e9
	seen, err = meter.Read(context.Background(), "soak", 2, 3)
	require.NoError(t, err)
	require.InDelta(t, 0.2, *seen.Proxies[0].Cores, 1e-9)
	seen, err = meter.Read(context.Background(), "soak", 3, 4)
	require.NoError(t, err)
	require.Nil(t, seen.Proxies[0].Cores, "the kubelet has nothing new")

	broken := NewResourceMeter(client, func(context.Context, string) ([]byte, error) { return nil, errors.New("gone") })
	_, err = broken.Read(context.Background(), "soak", 1, 2)
	require.ErrorContains(t, err, "ask the kubelet of one")
}

// sealed is a Vault that says one thing after another.
type sealed struct{ says []string }

func (s *sealed) PodGet(_ context.Context, _, pod, path string) ([]byte, error) {
	if pod != "https:vault-0:8200" || path != "/v1/sys/seal-status" {
		return nil, errors.New("not Vault")
	}
	text := s.says[0]
	s.says = s.says[1:]
	if text == "" {
		return nil, errors.New("connection refused")
	}
	return []byte(text), nil
}

func TestVaultsSealIsWatchedFromItsFirstAnswer(t *testing.T) {
	const open, shut = `{"type":"awskms","initialized":true,"sealed":false}`, `{"type":"awskms","initialized":true,"sealed":true}`
	clock := int64(0)
	w := NewSealWatch(&sealed{says: []string{"", shut, open, open, "", "", shut, open, "rubbish"}}, time.Hour, func() int64 { clock++; return clock })
	for range 9 {
		w.look(context.Background())
	}
	seen := w.Seen()
	require.Equal(t, []results.SealChange{{At: 3, State: "unsealed"}, {At: 7, State: "silent"}, {At: 11, State: "sealed"}, {At: 13, State: "unsealed"}, {At: 15, State: "silent"}}, seen.States)
	require.Equal(t, int64(3), seen.From)
	require.Equal(t, int64(16), seen.To)
}

func TestTheSealWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := NewSealWatch(&sealed{says: []string{""}}, time.Hour, func() int64 { return 0 })
	w.Run(ctx)
	require.Empty(t, w.Seen().States)
}
