package stack

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

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
