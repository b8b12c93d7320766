package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestWhatLiesBehindACauseIsToldWithIt(t *testing.T) {
	around := func() *story {
		s := newStory()
		for _, when := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, time.Hour} {
			s.event(when, results.Vault, "update pki/root/sign-intermediate", results.FieldState, results.StateDenied, results.FieldRole, "cert-manager")
			s.event(when, results.Webhook, "linkerd-proxy-injector.linkerd.io", results.FieldState, results.StateFailedOpen)
			s.events[len(s.events)-1].Detail = "could not be called"
		}
		s.event(4*time.Second, results.Vault, "read secret/data/x", results.FieldState, results.StateServed)
		s.event(4*time.Second, results.Webhook, "webhook.cert-manager.io", results.FieldState, results.StateFailedOpen)
		return s
	}
	expired := failure(time.Minute, func(r *results.Request) { r.Class, r.Error = results.ClassTLS, "x509: certificate has expired" })
	cause := causesOf(around(), expired)[0]
	require.Equal(t, causeCertificate, cause.Kind)
	require.Subset(t, cause.Evidence, []string{
		"update pki/root/sign-intermediate denied to cert-manager at " + at(int64(2*time.Second)),
		"update pki/root/sign-intermediate denied to cert-manager at " + at(int64(3*time.Second)),
	})

	refused := failure(time.Minute, func(r *results.Request) { r.Class, r.Hop = "http-403", "order-processing>inventory-management" })
	a := newAttribution(around().run, nil, around().events, nil)
	require.Equal(t, []string{
		"webhook linkerd-proxy-injector.linkerd.io could not be called, by " + at(int64(2*time.Second)),
		"webhook linkerd-proxy-injector.linkerd.io could not be called, by " + at(int64(3*time.Second)),
	}, a.during(refused, blame{kind: causeNoProxy}).near)
	require.Empty(t, a.during(refused, blame{kind: causePolicy}).near)

	u := &upstream{}
	require.Empty(t, u.before(causeCertificate, int64(time.Hour)))
	u.take(results.Event{At: 5, Kind: results.Vault, Fields: map[string]string{results.FieldState: results.StateDenied}})
	require.Empty(t, u.before(causeCertificate, 4), "what came after explains nothing")
	require.Len(t, u.before(causeCertificate, 5), 1)
	require.Empty(t, u.before(causeDrain, 5))
}
