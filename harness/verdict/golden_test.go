package verdict

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
)

// told is a cause as it is kept in the golden file: what a reader is told.
type told struct {
	Cause       string
	Count       int64
	Kind        string
	FailureMode string
	Mend        string
	Services    []string
	Evidence    []string
}

func toldOf(c results.Cause) told {
	return told{c.Cause, c.Count, c.Kind, c.FailureMode, c.Mend, c.Services, c.Evidence}
}

// golden holds v against a file, or rewrites it.
func golden(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, append(raw, '\n'), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(raw), "go test -update rewrites it")
}

// troubleOf is a run with one trouble now and then.
func troubleOf(kind string) synthetic.TroubledRun {
	return synthetic.Trouble(synthetic.TroubleOptions{
		Seed: 11, Troubles: []string{kind}, Every: 90 * time.Second, Innocent: 40 * time.Second, Strange: 1e-9, Lasts: 5 * time.Minute,
	})
}

// storyOf is a troubled run as far as its requests tell anything.
func storyOf(run synthetic.TroubledRun) *story {
	s := newStory("failed requests = 0")
	s.run.Shop, s.run.Phases = run.Run.Shop, run.Run.Phases
	s.events, s.probes = run.Events, run.Probes
	s.requests = slices.Clone(run.Served)
	for _, f := range run.Failures {
		s.requests = append(s.requests, f.Request)
	}
	slices.SortStableFunc(s.requests, func(a, b results.Request) int { return cmp.Compare(a.Done, b.Done) })
	return s
}

// One made-up run of each trouble goes the whole way, from its folder to the
// causes that are told.
func TestEachTroubleIsToldAsTheGoldenFileHasIt(t *testing.T) {
	got := map[string][]told{}
	for _, kind := range synthetic.Kinds() {
		v := storyOf(troubleOf(kind)).judge(t)
		require.Equal(t, results.Fail, v.Verdict, kind)
		require.NotEmpty(t, v.Causes, kind)
		require.Equal(t, kind, v.Causes[0].Kind, "the most frequent cause")
		for _, c := range v.Causes[:min(len(v.Causes), 2)] {
			got[kind] = append(got[kind], toldOf(c))
		}
	}
	golden(t, filepath.Join("testdata", "causes.json"), got)
}

// slowStory is a run with an end-to-end budget of 100 ms and so many quick
// requests, ten a second.
func slowStory(n int) *story {
	s := newStory("end-to-end p99 < 100ms").served("soak", n)
	for i := range s.requests {
		r := &s.requests[i]
		r.Scheduled = int64(i) * int64(100*time.Millisecond)
		r.Sent, r.Done = r.Scheduled, r.Scheduled+int64(5*time.Millisecond)
	}
	return s
}

func TestASlowRequestIsAskedWhereItsTimeWent(t *testing.T) {
	const way = "product-catalog-1@worker/v1:"
	for name, c := range map[string]struct {
		around      func(*story)
		change      func(*results.Request)
		kind, cause string
	}{
		"the sender sent late": {nil, func(r *results.Request) { r.Sent = r.Scheduled + int64(190*time.Millisecond) }, causeSender, "the sender sent late"},
		"in the database":      {nil, func(r *results.Request) { r.Hops = way + "195000(postgres:1000:190000)" }, causeDatabase, "the database was slow"},
		"waiting for a connection to the database": {nil, func(r *results.Request) { r.Hops = way + "195000(postgres-connection:1000:190000)" }, causeDatabase,
			"no connection to the database was free in time"},
		"in a pod that had just begun": {
			func(s *story) {
				s.pod(45*time.Second, "product-catalog-1", "product-catalog", results.StateReady)
			},
			func(r *results.Request) { r.Hops = way + "195000" }, causeColdStart, "a pod of product-catalog had only just begun"},
		"in a pod that had begun long before": {
			func(s *story) {
				s.pod(5*time.Second, "product-catalog-1", "product-catalog", results.StateReady)
			},
			func(r *results.Request) { r.Hops = way + "195000" }, causeUnknown, "unknown: slow in product-catalog"},
		"between two services": {nil, func(r *results.Request) {
			r.Hops = way + "195000(inventory-management:1000:190000=inventory-management-1@worker/v1:900)"
		}, causeUnknown, "unknown: slow between product-catalog and inventory-management"},
		"a proxy that could not tell the protocol": {nil, func(r *results.Request) {
			r.Done = r.Sent + int64(10100*time.Millisecond)
			r.Hops = way + "10050000(inventory-management:1000:10040000=inventory-management-1@worker/v1:900)"
		}, causeDetection, "a proxy waited for a protocol that it could not tell, between product-catalog and inventory-management"},
		"before it came to the shop": {nil, func(r *results.Request) { r.Hops = way + "1000" }, causeUnknown, "unknown: slow between the load balancer and product-catalog"},
		"at no one place": {nil, func(r *results.Request) {
			r.Hops = way + "195000(inventory-management:1000:90000=inventory-management-1@worker/v1:89000)"
		}, causeUnknown, "unknown: slow at no one place of its way"},
		"nobody knows where": {nil, func(*results.Request) {}, causeUnknown, "unknown: slow at no one place of its way"},
	} {
		t.Run(name, func(t *testing.T) {
			s := slowStory(1000)
			if c.around != nil {
				c.around(s)
			}
			slow := &s.requests[500] // at 50 s
			slow.Done = slow.Sent + int64(200*time.Millisecond)
			c.change(slow)
			v := s.judge(t)
			require.Empty(t, v.Causes)
			require.Len(t, v.SlowCauses, 1)
			require.Equal(t, c.kind, v.SlowCauses[0].Kind)
			require.Equal(t, c.cause, v.SlowCauses[0].Cause)
			require.Equal(t, int64(1), v.SlowCauses[0].Count)
			require.Equal(t, uint64(501), v.SlowCauses[0].Requests[0].Seq)
		})
	}
}

func TestManySlowRequestsInASpikeAreSaturation(t *testing.T) {
	spike := func(each time.Duration) []results.Cause {
		s := slowStory(1000)
		for i := range 100 { // at 50 s, beside the ten a second
			at := int64(50*time.Second) + int64(i)*int64(each)
			s.requests = append(s.requests, results.Request{
				Seq: uint64(2000 + i), Scheduled: at, Sent: at, Done: at + int64(300*time.Millisecond), Phase: "soak", Route: "browse", Proto: "http",
				Status: 200, Outcome: results.OK,
			})
		}
		return s.judge(t).SlowCauses
	}
	causes := spike(10 * time.Millisecond)
	require.Len(t, causes, 1)
	require.Equal(t, causeSaturation, causes[0].Kind)
	require.Equal(t, int64(100), causes[0].Count)
	require.Equal(t, "O7", causes[0].FailureMode)
	causes = spike(700 * time.Millisecond)
	require.Len(t, causes, 1)
	require.Equal(t, causeUnknown, causes[0].Kind, "as many slow ones, but no more came than else")
}

func TestWhoseCertificateItWasIsSaidWhereItIsKnown(t *testing.T) {
	for text, want := range map[string]struct{ cause, mode string }{
		"x509: certificate has expired or is not yet valid: current time 2026-05-04T10:00:00Z is after 2026-05-04T09:00:00Z": {
			"the certificate of b has expired", "I5"},
		"invalid peer certificate: CertNotValidYet": {"the certificate of b is not valid yet", "I6"},
		`x509: certificate signed by unknown authority (possibly because of "b.prod-app.serviceaccount.identity.linkerd.cluster.local")`: {
			"the certificate of b.prod-app does not chain to the caller's trust anchor", "I1"},
	} {
		s := newStory()
		s.probe(results.ProbeLeaves, results.Leaves{Proxies: 2, Expired: []string{"b-1", "c-1"}})
		causes := causesOf(s, failure(time.Minute, func(r *results.Request) { r.Class, r.Hop, r.Error, r.Pod = results.ClassTLS, "a>b", text, "b-1" }))
		require.Len(t, causes, 1)
		require.Contains(t, causes[0].Cause, want.cause)
		require.Equal(t, want.mode, causes[0].FailureMode)
		require.Contains(t, causes[0].Evidence, "certificates that had ended: b-1")
	}
}

func TestTheDeepestFailedCallIsWhereARequestBroke(t *testing.T) {
	r := failure(time.Minute, func(r *results.Request) {
		r.Route, r.Hop = "order", "order-processing"
		r.Hops = "order-processing-1@worker/v1:9000(inventory-management:10:8000!13=inventory-management-2@worker2/v1:7000(customer-profile:5:6000!14=customer-profile-3@worker3/v1:100))"
	})
	require.Equal(t, way{
		caller: "inventory-management", callee: "customer-profile", callerPod: "inventory-management-2", calleePod: "customer-profile-3", calleeNode: "worker3",
	}, wayOf(r, newEdges().readWay(r)))
	r.Hop = "order-processing>payment-gateway"
	require.Equal(t, way{caller: "order-processing", callee: "payment-gateway"}, wayOf(r, newEdges().readWay(r)), "the hop that the failure itself names goes first")
	r.Hops = "damaged("
	require.Equal(t, way{caller: "order-processing", callee: "payment-gateway"}, wayOf(r, newEdges().readWay(r)))
}

func TestAProxyThatWaitsLongerThanTheGracePeriodIsNamed(t *testing.T) {
	s := newStory()
	s.run.Shop.ProxyWaitSeconds, s.run.Shop.TerminationGracePeriodSeconds = 40, 30
	s.pod(55*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
	causes := causesOf(s, failure(time.Minute, func(*results.Request) {}))
	require.Equal(t, "R2", causes[0].FailureMode)
	require.Contains(t, causes[0].Cause, "grace period of 30 s ended, before their proxies' wait of 40 s")
}
