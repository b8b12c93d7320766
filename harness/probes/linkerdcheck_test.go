package probes

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/results"
)

// checked is the command's answer as it writes it: one document, and one more
// for an extension.
const checked = `{
  "success": true,
  "categories": [
    {"categoryName": "kubernetes-api", "checks": [{"description": "can initialize the client", "result": "success"}]},
    {"categoryName": "linkerd-identity", "checks": [
      {"description": "certificate config is valid", "result": "success"},
      {"description": "issuer cert is valid for at least 60 days", "hint": "https://linkerd.example/checks", "error": "issuer certificate will expire on 2024-09-01", "result": "warning"}
    ]}
  ]
}
{"success": false, "categories": [{"categoryName": "linkerd-viz", "checks": [{"description": "linkerd-viz Namespace exists", "error": "not found", "result": "error"}]}]}
`

func answering(stdout string, err error) *command.Fake {
	return &command.Fake{Respond: func(command.Cmd) (command.Output, error) { return command.Output{Stdout: []byte(stdout)}, err }}
}

func TestWhatLinkerdCheckSaysIsKeptAndFindingsAreNoError(t *testing.T) {
	runner := answering(checked, &command.Error{ExitCode: 1, Err: errors.New("exit status 1")})
	seen, err := LinkerdCheck(context.Background(), runner, CheckOptions{Kubeconfig: "/k", Version: "stable-2.14.10", DataPlane: true})
	require.NoError(t, err)
	require.Equal(t, []string{"linkerd check -o json --linkerd-namespace linkerd --kubeconfig /k --wait 30s --expected-version stable-2.14.10 --proxy -n prod-app"}, runner.Lines())
	require.False(t, seen.Success)
	require.True(t, seen.DataPlane)
	require.Equal(t, 2, seen.Passed)
	require.Equal(t, []results.Finding{
		{Category: "linkerd-identity", Check: "issuer cert is valid for at least 60 days", Result: "warning", Error: "issuer certificate will expire on 2024-09-01"},
		{Category: "linkerd-viz", Check: "linkerd-viz Namespace exists", Result: "error", Error: "not found"},
	}, seen.Findings)
	require.Len(t, seen.Reports, 2)
	require.JSONEq(t, checked[:len(seen.Reports[0])], string(seen.Reports[0]), "as it came")
	require.Equal(t, "2 passed, 1 warned, 1 failed", CheckWords(seen))

	runner = answering(`{"success":true,"categories":[]}`, nil)
	seen, err = LinkerdCheck(context.Background(), runner, CheckOptions{Kubeconfig: "/k"})
	require.NoError(t, err)
	require.True(t, seen.Success)
	require.NotContains(t, runner.Lines()[0], "--proxy")
	require.NotContains(t, runner.Lines()[0], "--expected-version")
}

func TestACheckThatCannotBeRunOrReadIsAnError(t *testing.T) {
	_, err := LinkerdCheck(context.Background(), answering("", &command.Error{ExitCode: -1, Err: exec.ErrNotFound}), CheckOptions{})
	require.ErrorIs(t, err, ErrNoLinkerd)
	for name, c := range map[string]struct {
		stdout string
		err    error
		want   string
	}{
		"a panic":           {"panic: runtime error", &command.Error{ExitCode: 2, Err: errors.New("exit status 2")}, "it is not JSON"},
		"nothing":           {"", nil, "it is not JSON: EOF"},
		"half an answer":    {`{"success": tr`, nil, "it is not JSON"},
		"another answer":    {`{"status": "ok"}`, nil, "it says nothing of success"},
		"a list":            {`[]`, nil, "read what linkerd check says"},
		"a killed command":  {`{"success":true}`, &command.Error{ExitCode: -1, Err: context.DeadlineExceeded}, "deadline exceeded"},
		"text after it all": {`{"success":true} done`, nil, "it is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LinkerdCheck(context.Background(), answering(c.stdout, c.err), CheckOptions{})
			require.ErrorContains(t, err, c.want)
			require.NotErrorIs(t, err, ErrNoLinkerd)
		})
	}
}

func FuzzParseCheck(f *testing.F) {
	f.Add([]byte(checked))
	f.Add([]byte(`{"success":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		seen, err := parseCheck(raw)
		if err == nil && len(seen.Reports) == 0 {
			t.Error("an answer without a report was taken")
		}
	})
}

func TestProxiesWhoseCertificateHasEndedOrWhoSayNothingAreNamed(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	pod := func(name string, containers ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app",
			Labels: map[string]string{"app.kubernetes.io/part-of": "fakeshop", "app.kubernetes.io/name": "product-catalog"}}}
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		}
		return p
	}
	leaving := pod("leaving", "linkerd-proxy")
	deleted := metav1.NewTime(now)
	leaving.DeletionTimestamp, leaving.Finalizers = &deleted, []string{"x/y"}
	client := fake.NewClientset(pod("good", "linkerd-proxy", "app"), pod("ended", "linkerd-proxy"), pod("silent", "linkerd-proxy"), pod("bare", "app"), leaving)
	prom := &answers{text: `{"status":"success","data":{"resultType":"vector","result":[
		{"metric":{"pod":"good"},"value":[1,"1003600"]},
		{"metric":{"pod":"ended"},"value":[1,"999999"]},
		{"metric":{"pod":"gone-since"},"value":[1,"5"]}]}}`}
	seen, err := Leaves(context.Background(), client, prom, now)
	require.NoError(t, err)
	require.Equal(t, results.Leaves{Proxies: 3, Earliest: time.Unix(999_999, 0).UTC(), Expired: []string{"ended"}, Silent: []string{"silent"}}, seen)
	require.Equal(t, `max by (pod) (identity_cert_expiration_timestamp_seconds{namespace="prod-app"})`, prom.query)
	_, err = Leaves(context.Background(), client, &answers{text: "<html>"}, now)
	require.ErrorContains(t, err, "ask when the proxies' certificates end")
}
