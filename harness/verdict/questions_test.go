package verdict

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// paid is an order that a pod of the payment gateway served or failed.
func paid(at time.Duration, version string, failed bool) *results.Request {
	code, pod := "", "payment-gateway-"+version+"-1"
	if failed {
		code = "!13"
	}
	r := failure(at, func(r *results.Request) {
		r.Route, r.Class, r.Hop, r.Pod = "order", "http-500", "order-processing>payment-gateway", pod
		r.Hops = fmt.Sprintf("order-processing-1@worker/v1:9000(payment-gateway:10:8000%s=%s@worker2/%s:7000)", code, pod, version)
	})
	if !failed {
		r.Outcome, r.Class, r.Hop, r.Pod = results.OK, "", "", ""
	}
	return r
}

func TestAVersionIsBlamedWhereTheOtherServesAtTheSameTime(t *testing.T) {
	const serves, fails = false, true
	for name, c := range map[string]struct {
		orders func(i int) []*results.Request // of 100 seconds
		kind   string
		cause  string
	}{
		"half of one version's calls fail": {func(i int) []*results.Request {
			at := time.Duration(i) * time.Second
			return []*results.Request{paid(at, "v1", serves), paid(at, "v1", serves), paid(at, "v2", i%2 == 0)}
		}, causeVersion, "version v2 of payment-gateway fails calls that its other versions serve: 50 × http-500"},
		"the old one fails, too": {func(i int) []*results.Request {
			at := time.Duration(i) * time.Second
			return []*results.Request{paid(at, "v1", i%4 == 0), paid(at, "v2", i%2 == 0)}
		}, causeUnknown, "unknown: http-500 between order-processing and payment-gateway"},
		"a single failure is none": {func(i int) []*results.Request {
			at := time.Duration(i) * time.Second
			return []*results.Request{paid(at, "v1", serves), paid(at, "v2", i == 50)}
		}, causeUnknown, "unknown: http-500 between order-processing and payment-gateway: 1 × http-500"},
		"the other served at another time": {func(i int) []*results.Request {
			at := time.Duration(i) * time.Second
			if i < 50 {
				return []*results.Request{paid(at, "v1", serves)}
			}
			return []*results.Request{paid(at, "v2", fails)}
		}, causeUnknown, "unknown: http-500 between order-processing and payment-gateway: 50 × http-500"},
		"there is no other": {func(i int) []*results.Request {
			return []*results.Request{paid(time.Duration(i)*time.Second, "v1", i%2 == 0)}
		}, causeUnknown, "unknown: http-500 between order-processing and payment-gateway: 50 × http-500"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*results.Request
			for i := range 100 {
				all = append(all, c.orders(i)...)
			}
			causes := causesOf(newStory(), all...)
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind)
			require.Contains(t, causes[0].Cause, c.cause)
			if c.kind == causeVersion {
				require.Contains(t, causes[0].Evidence, "payment-gateway v2: 50 of 100 calls failed")
				require.Contains(t, causes[0].Evidence, "payment-gateway v1 at the same time: 0 of 200")
				require.Equal(t, []string{"payment-gateway-v2-1"}, causes[0].Pods)
				require.NotEmpty(t, causes[0].Mend)
			}
		})
	}
}

func TestTheDatabaseIsBlamedForSilenceOnlyWhereOthersMeetItToo(t *testing.T) {
	waiting := failure(time.Minute, func(r *results.Request) {
		r.Class, r.Hop, r.Hops = "http-504", "product-catalog>postgres", "product-catalog-1@worker/v1:4099912(postgres-connection:283078:3816784!4)"
	})
	asking := func(code string) *results.Request {
		return failure(time.Minute, func(r *results.Request) {
			r.Outcome, r.Class, r.Route = results.OK, "", "customer"
			r.Hops = "customer-profile-1@worker/v1:9000(postgres:10:800" + code + ")"
		})
	}
	for name, c := range map[string]struct {
		others []*results.Request
		kind   string
	}{
		"nobody else asked":      {nil, causeDatabase},
		"others were answered":   {slices.Repeat([]*results.Request{asking("")}, 10), causeUnknown},
		"others were not either": {append(slices.Repeat([]*results.Request{asking("")}, 10), asking("!4")), causeDatabase},
	} {
		t.Run(name, func(t *testing.T) {
			causes := causesOf(newStory(), append(c.others, waiting)...)
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind)
			if c.kind == causeUnknown {
				require.Contains(t, causes[0].Cause, "the database did not answer product-catalog, and answered others")
				require.Contains(t, causes[0].Evidence, "calls of others to the database at the same time: 0 of 10 failed")
			}
		})
	}
}

// Of two pods of order-processing one has a proxy; the request that is asked
// about tells neither.
func TestWhoWasRefusedIsSaidOnlyWhereOthersTellIt(t *testing.T) {
	const bare, meshed = "order-processing-1", "order-processing-2"
	refused := func(pod string) *results.Request {
		return failure(time.Minute, func(r *results.Request) {
			r.Class, r.Hop, r.Pod = "http-403", "order-processing>inventory-management", pod
		})
	}
	served := func(pod, callee string) *results.Request {
		return failure(time.Minute, func(r *results.Request) {
			r.Outcome, r.Class, r.Route = results.OK, "", "order"
			r.Hops = pod + "@worker/v1:9000(" + callee + ":10:8000=" + callee + "-1@worker2/v1:7000)"
		})
	}
	times := func(n int, r *results.Request) []*results.Request { return slices.Repeat([]*results.Request{r}, n) }
	for name, c := range map[string]struct {
		others []*results.Request
		want   map[string]int64
	}{
		"nobody tells its pod":                                                 {nil, map[string]int64{causeUnknown: 1}},
		"a few are without a proxy, which may be chance":                       {times(3, refused(bare)), map[string]int64{causeUnknown: 1, causeNoProxy: 3}},
		"so many are without a proxy that it is no chance":                     {times(10, refused(bare)), map[string]int64{causeNoProxy: 11}},
		"so many have one":                                                     {times(10, refused(meshed)), map[string]int64{causePolicy: 11}},
		"some have one and some do not":                                        {append(times(10, refused(bare)), refused(meshed)), map[string]int64{causeUnknown: 1, causeNoProxy: 10, causePolicy: 1}},
		"one has none, and those that have one are served":                     {append(times(10, served(meshed, "inventory-management")), refused(bare)), map[string]int64{causeNoProxy: 2}},
		"one has one, and those that have none are served":                     {append(times(10, served(bare, "inventory-management")), refused(meshed)), map[string]int64{causePolicy: 2}},
		"those that have one are served by somebody else":                      {append(times(10, served(meshed, "payment-gateway")), refused(bare)), map[string]int64{causeNoProxy: 2}},
		"those that have one are served by the database":                       {append(times(10, served(meshed, "postgres")), refused(bare)), map[string]int64{causeUnknown: 1, causeNoProxy: 1}},
		"nobody is named, and those that have one are served":                  {times(10, served(meshed, "inventory-management")), map[string]int64{causeNoProxy: 1}},
		"nobody is named, and those that have one are served by somebody else": {times(10, served(meshed, "payment-gateway")), map[string]int64{causeUnknown: 1}},
		"nobody is named, and both are served":                                 {append(times(10, served(meshed, "inventory-management")), served(bare, "inventory-management")), map[string]int64{causeUnknown: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory().event(50*time.Second, results.StepBegin, "enforce")
			for pod, has := range map[string]string{bare: "false", meshed: "true"} {
				s.event(0, results.Pod, pod, results.FieldService, "order-processing", results.FieldState, results.StateReady,
					results.FieldNode, "worker", results.FieldMeshed, has)
			}
			got := map[string]int64{}
			for _, cause := range causesOf(s, append(c.others, refused(""))...) {
				got[cause.Kind] += cause.Count
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestACallerWhosePodsAllLackAProxyIsNamedAtOnce(t *testing.T) {
	s := newStory().event(50*time.Second, results.StepBegin, "enforce").
		event(0, results.Pod, "order-processing-1", results.FieldService, "order-processing", results.FieldState, results.StateReady,
			results.FieldNode, "worker", results.FieldMeshed, "false")
	causes := causesOf(s, failure(time.Minute, func(r *results.Request) { r.Class, r.Hop = "http-403", "order-processing>inventory-management" }))
	require.Len(t, causes, 1)
	require.Equal(t, causeNoProxy, causes[0].Kind)
	require.Equal(t, []string{"order-processing-1"}, causes[0].Pods)
}
