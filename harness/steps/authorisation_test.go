package steps

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/kube"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/agent/knock"
	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

func TestEveryServiceTriesAndSoDoThoseWhomNobodyDeclared(t *testing.T) {
	all := callers(shopchart.Services(), busiest(shopchart.Services()))
	require.Len(t, all, len(shopchart.Services())+3)
	require.Equal(t, caller{name: "product-catalog", account: "product-catalog", as: "own", meshed: true}, all[0])
	require.Equal(t, []caller{
		{name: "prod-app/default", account: "default", as: "wrong-account", meshed: true},
		{name: "meshsim-probe/order-processing", account: "order-processing", as: "other-namespace", meshed: true, other: true},
		{name: "order-processing", account: "order-processing", as: "plaintext"},
	}, all[8:])
}

func TestACallersPodIsItsIdentityAndNothingElse(t *testing.T) {
	s := &probeAuthorisation{env: &Env{Rollout: NewRollout(nil, []string{"product-catalog", "payment-gateway"})}}
	pods := map[string]string{"product-catalog": "10.244.1.5", "payment-gateway": "10.244.1.6"}
	own := caller{name: "product-catalog", account: "product-catalog", as: "own", meshed: true}
	stranger := caller{name: "order-processing", account: "order-processing", as: "plaintext"}
	require.Equal(t, []string{"--targets=product-catalog=product-catalog.prod-app:9090,payment-gateway=payment-gateway.prod-app:9090"}, s.args(own, pods))
	require.Equal(t, []string{
		"--targets=product-catalog=product-catalog.prod-app:9090,payment-gateway=payment-gateway.prod-app:9090,product-catalog=10.244.1.5:9090,payment-gateway=10.244.1.6:9090",
		"--tls-targets=product-catalog=10.244.1.5:9090,payment-gateway=10.244.1.6:9090",
		"--name=order-processing.prod-app.serviceaccount.identity.linkerd.cluster.local",
		"--suffix=.prod-app.serviceaccount.identity.linkerd.cluster.local",
	}, s.args(stranger, pods))

	text, err := render(callerManifest, map[string]any{
		"Namespace": "meshsim-probe", "OwnNamespace": true, "Account": "order-processing", "Pod": callerPod, "Meshed": true, "Image": "agent:1", "Args": []string{"--x"},
	})
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	require.Len(t, objects, 3)
	require.Equal(t, []string{"Namespace", "ServiceAccount", "Pod"}, []string{objects[0].GetKind(), objects[1].GetKind(), objects[2].GetKind()})
	require.NotContains(t, objects[2].GetLabels(), "app.kubernetes.io/name", "no Service of the shop picks it")
	text, err = render(callerManifest, map[string]any{
		"Namespace": "prod-app", "OwnNamespace": false, "Account": "default", "Pod": callerPod, "Meshed": false, "Image": "agent:1", "Args": []string{"--x"},
	})
	require.NoError(t, err)
	objects, err = kube.Decode(text)
	require.NoError(t, err)
	require.Len(t, objects, 1)
	require.Equal(t, map[string]string{"linkerd.io/inject": "disabled"}, objects[0].GetAnnotations())
}

func TestAttemptsAreHeldAgainstTheDeclaredCallers(t *testing.T) {
	own := attempts(caller{name: "order-processing", account: "order-processing", as: "own", meshed: true}, []knock.Result{
		{Target: "payment-gateway", Way: knock.Plain, Got: plaintext.Accepted, Why: "grpc-status Unimplemented"},
		{Target: "recommendation-service", Way: knock.Plain, Got: plaintext.Refused},
		{Target: "analytics-service", Way: knock.Plain, Got: plaintext.Unknown},
	})
	require.Equal(t, []bool{true, false, true}, []bool{*own[0].Allowed, *own[1].Allowed, *own[2].Allowed})
	require.Equal(t, []string{"admitted", "refused", "unclear"}, []string{own[0].Got, own[1].Got, own[2].Got})

	const id = ".serviceaccount.identity.linkerd.cluster.local"
	require.Equal(t, "order-processing.prod-app"+id, own[0].Client)
	there := caller{account: "order-processing", meshed: true, other: true}
	require.Equal(t, "order-processing.meshsim-probe"+id, there.identity())

	others := attempts(caller{name: "order-processing", account: "order-processing", as: "plaintext"}, []knock.Result{
		{Target: "payment-gateway", Way: knock.Plain, Got: plaintext.Accepted}, {Target: "payment-gateway", Way: knock.Foreign, Got: plaintext.Refused}, {Target: "payment-gateway", Way: knock.Expired},
	})
	require.Equal(t, []bool{false, true, false}, []bool{others[0].Unasked, others[1].Unasked, others[2].Unasked}, "a handshake asks no policy")
	require.Equal(t, []string{"plaintext", "foreign", "expired"}, []string{others[0].As, others[1].As, others[2].As})
	for _, a := range others {
		require.Empty(t, a.Client)
		require.False(t, *a.Allowed, "an account's name alone allows nothing")
	}
}

func TestRefusalsAreJoinedWithCountersAndAlerts(t *testing.T) {
	at := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	const me = "x.prod-app.id"
	try := func(callee, as, got string, after time.Duration) results.Attempt {
		a := results.Attempt{Callee: callee, As: as, Got: got, At: at.Add(after)}
		if as == results.AsOwn {
			a.Client = me
		}
		return a
	}
	of := func(callee, client string) probes.Denial { return probes.Denial{Callee: callee, Client: client} }
	all := []results.Attempt{
		try("a", "own", "refused", 0), try("a", "plaintext", "refused", 20*time.Second), try("b", "own", "refused", 0),
		{Callee: "b", As: "foreign", Got: "refused", Unasked: true}, try("c", "plaintext", "refused", 0), try("c", "own", "admitted", 0), try("d", "own", "unclear", 0),
	}
	require.Equal(t, map[probes.Denial]int{of("a", me): 1, of("a", ""): 1, of("b", me): 1, of("c", ""): 1}, refusals(all))
	require.Equal(t, []string{"a", "b", "c"}, refusedCallees(all))
	join(all, map[probes.Denial]int{of("a", me): 1, of("a", "y.prod-app.id"): 9, of("b", me): 3, of("c", me): 2}, map[string]time.Time{"a": at.Add(12 * time.Second), "c": {}})
	require.Equal(t, []bool{true, false, true, false}, []bool{*all[0].Counted, *all[1].Counted, *all[2].Counted, *all[4].Counted}, "what others were denied there hides nothing")
	require.Equal(t, []int64{12000, 0, -1}, []int64{*all[0].AlertedAfterMs, *all[1].AlertedAfterMs, *all[2].AlertedAfterMs}, "12 s, at once as it was raised already, never")
	require.Nil(t, all[4].AlertedAfterMs, "the alert was there before")
	skewed := []results.Attempt{try("a", "own", "refused", 0), try("a", "own", "refused", time.Second)}
	join(skewed, map[probes.Denial]int{of("a", me): 2}, map[string]time.Time{"a": at.Add(-time.Second)})
	require.Equal(t, []*int64{nil, nil}, []*int64{skewed[0].AlertedAfterMs, skewed[1].AlertedAfterMs}, "no alert comes before its cause: the clocks differ")
	for _, i := range []int{3, 5, 6} {
		require.Nil(t, all[i].Counted, "no policy was asked, or it let the call in, or nobody knows")
		require.Nil(t, all[i].AlertedAfterMs)
	}
}
