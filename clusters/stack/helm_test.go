package stack

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestValuesThatTheSchemaRefusesAreWrongUse(t *testing.T) {
	c, err := chartFromFS(fstest.MapFS{
		"x/Chart.yaml":         {Data: []byte("apiVersion: v2\nname: x\nversion: 1.0.0\n")},
		"x/values.schema.json": {Data: []byte(`{"type":"object","properties":{"drain":{"type":"boolean"}},"additionalProperties":false}`)},
	}, "x")
	require.NoError(t, err)
	require.NoError(t, checkValues(release{Name: "x", Chart: c, Values: map[string]any{"drain": true}}))
	err = checkValues(release{Name: "x", Chart: c, Values: map[string]any{"drian": true}})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, "values of release x")
	require.ErrorContains(t, err, "drian")
}

// smallChart has an object, and a CRD among its templates as linkerd-crds has.
func smallChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := chartFromFS(fstest.MapFS{
		"x/Chart.yaml":            {Data: []byte("apiVersion: v2\nname: x\nversion: 1.0.0\n")},
		"x/values.yaml":           {Data: []byte("level: info\n")},
		"x/templates/config.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {level: {{ .Values.level }}}\n")},
		"x/templates/crd.yaml":    {Data: []byte("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: xs.example.org}\n")},
	}, "x")
	require.NoError(t, err)
	return c
}

func TestAReleaseIsUpgradedInPlaceAlsoAfterAnUpgradeThatFailed(t *testing.T) {
	b := newBench(t)
	const config = "/api/v1/namespaces/linkerd/configmaps/x"
	r := release{Name: "x", Namespace: NamespaceMesh, Chart: smallChart(t)}
	to := func(level string) error {
		r.Values = map[string]any{"level": level}
		return helm{}.Put(t.Context(), b.Env, r)
	}
	level := func() any { return b.cluster.get(config)["data"].(object)["level"] }
	require.NoError(t, to("info"))
	require.Equal(t, "info", level())
	require.NoError(t, to("debug"))
	require.Equal(t, "debug", level())

	b.cluster.fails = func(method, path string) string {
		if path == config {
			return "not now"
		}
		return ""
	}
	require.ErrorContains(t, to("warn"), "upgrade release x")
	b.cluster.fails = nil
	b.cluster.log = nil
	require.NoError(t, to("warn"))
	require.Equal(t, "warn", level())
	require.NotContains(t, b.cluster.log, "DELETE "+config, "what runs is not taken away to be put back")

	require.NoError(t, helm{}.Drop(t.Context(), b.Env, "x", NamespaceMesh))
	require.Equal(t, []string{"/api/v1/namespaces/vault/secrets/vault-tls"}, b.cluster.paths(), "a CRD among the templates goes with its release")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHelmsRequestsEndWithTheCallersContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	transport := boundTransport{ctx: ctx, next: roundTrip(func(r *http.Request) (*http.Response, error) {
		require.Equal(t, ctx, r.Context())
		return &http.Response{StatusCode: http.StatusOK}, nil
	})}
	req, err := http.NewRequest(http.MethodGet, "http://cluster", nil)
	require.NoError(t, err)
	_, err = transport.RoundTrip(req)
	require.NoError(t, err)
	cancel(errors.New("Ctrl-C"))
	_, err = transport.RoundTrip(req)
	require.EqualError(t, err, "Ctrl-C")
}
