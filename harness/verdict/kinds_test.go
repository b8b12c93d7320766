package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// oneBudget judges a story of one budget and checks what was said of it.
func oneBudget(t *testing.T, s *story, verdict results.Judgement, measured string) {
	t.Helper()
	v := s.judge(t)
	require.Len(t, v.Budgets, 1)
	require.Equal(t, measured, v.Budgets[0].Measured)
	require.Equal(t, verdict, v.Budgets[0].Verdict, measured)
}

// step adds a step from an instant to another.
func (s *story) step(name, words string, from, to time.Duration) *story {
	s.event(from, results.StepBegin, name)
	s.events[len(s.events)-1].Detail = words
	s.event(to, results.StepEnd, name)
	s.events[len(s.events)-1].Detail = words
	return s
}

// phaseOver marks the phase soak from 0 to an instant.
func (s *story) phaseOver(to time.Duration) *story {
	return s.event(0, results.PhaseBegin, "soak").event(to, results.PhaseEnd, "soak")
}

func withHops(line string) func(*results.Request) {
	return func(r *results.Request) { r.Hops = line }
}

const (
	goodWay   = "~a@n1/v1:4000(inventory-management:1:2000=~b@n2/v2:900,payment-gateway:2:90000=~c@n2/v1:800)"
	brokenWay = "~a@n1/v1:4000(inventory-management:1:2000!14=~b@n2/v2:900,payment-gateway:2:1000!5=~c@n2/v1:800)"
)

func TestBudgetsOnSomeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		budget   string
		story    func(*story)
		verdict  results.Judgement
		measured string
	}{
		"only the chosen route counts": {
			"failed requests = 0 shown to 90% of route order",
			func(s *story) {
				s.served("soak", 6000).each(100, func(r *results.Request) { r.Route = "order" })
				failWith("eof")(&s.requests[1])
			}, results.Pass, "0 of 60 failed"},
		"and it must have been seen often enough": {
			"failed requests = 0 of route order",
			func(s *story) { s.served("soak", 6000).each(100, func(r *results.Request) { r.Route = "order" }) },
			results.Inconclusive, "0 of 60 failed; 5,940 more requests are needed"},
		"a class of failure is counted by itself": {
			"failed requests = 0 of class policy-denied",
			func(s *story) { s.served("soak", 6000).first(1, failWith("eof")) }, results.Pass, "0 of 6,000 failed"},
		"a status as well": {
			"failed requests = 0 of status 502",
			func(s *story) { s.served("soak", 6000).first(2, failWith("http-502")) }, results.Fail, "2 of 6,000 failed: 2 × http-502"},
		"requests by a hop's service and version": {
			"failed requests = 0 shown to 99% of service inventory-management and version v2",
			func(s *story) { s.served("soak", 6000).each(10, withHops(goodWay)).each(1, knownWay) }, results.Pass, "0 of 600 failed"},
		"service and version must be one hop's": {
			"failed requests = 0 of service payment-gateway and version v2",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)) }, results.Inconclusive, "no such request was recorded"},
		"a failure that does not tell its way may belong here": {
			"failed requests = 0 shown to 99% of service payment-gateway",
			func(s *story) {
				s.served("soak", 6000).each(1, withHops(goodWay))
				failWith("timeout")(&s.requests[7])
				s.requests[7].Hops = ""
			}, results.Inconclusive, "0 of 5,999 failed; 1 more that failed does not tell its way and may belong here"},
		"its hop tells enough": {
			"failed requests = 0 of service payment-gateway",
			func(s *story) {
				s.served("soak", 6000).each(1, withHops(goodWay))
				failWith("timeout")(&s.requests[7])
				s.requests[7].Hops, s.requests[7].Hop = "", "order-processing>payment-gateway"
			}, results.Fail, "1 of 6,000 failed: 1 × timeout"},
		"when nobody tells a way there is nothing to judge": {
			"failed requests = 0 of version v2", func(s *story) { s.served("soak", 6000) }, results.Inconclusive,
			"6,000 requests do not tell their way through the shop, and no other belongs here"},
		"calls that failed, a business answer is none": {
			"failed calls = 0 of service inventory-management, payment-gateway",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)).first(2, withHops(brokenWay)) },
			results.Fail, "2 of 12,000 failed: 2 × grpc-UNAVAILABLE"},
		"calls to one service": {
			"failed calls = 0 of service payment-gateway",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)).first(2, withHops(brokenWay)) }, results.Pass, "0 of 6,000 failed"},
		"calls by their caller": {
			"calls >= 12000 of caller product-catalog",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)) }, results.Pass, "12,000 seen"},
		"how long calls took": {
			"call latency p50 < 10ms of service payment-gateway",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)) }, results.Fail, "p50 90.0 ms (95 %: 90.0 to 90.0 ms)"},
		"and of others": {
			"call latency p50 < 10ms of service inventory-management",
			func(s *story) { s.served("soak", 6000).each(1, withHops(goodWay)) }, results.Pass, "p50 2.00 ms (95 %: 2.00 to 2.00 ms)"},
		"enough requests": {"requests >= 6000", func(s *story) { s.served("soak", 6000) }, results.Pass, "6,000 seen"},
		"too few requests": {"requests >= 6001", func(s *story) { s.served("soak", 6000) }, results.Inconclusive,
			"6,000 seen; 1 more request is needed"},
		"a share that may be refused": {
			"rejected requests <= 5%",
			func(s *story) {
				s.served("soak", 6000).each(50, func(r *results.Request) { r.Outcome, r.Status = results.Rejected, 409 })
			},
			results.Pass, "120 of 6,000 rejected (95 % sure: at least 1.7118 %, at most 2.3235 %)"},
		"a share that is over": {
			"failed requests <= 1%", func(s *story) { s.served("soak", 6000).each(50, failWith("eof")) }, results.Fail,
			"120 of 6,000 failed: 120 × eof (95 % sure: at least 1.7118 %, at most 2.3235 %)"},
		"a share that may be either": {
			"failed requests <= 2%", func(s *story) { s.served("soak", 6000).each(50, failWith("eof")) }, results.Inconclusive,
			"120 of 6,000 failed: 120 × eof (95 % sure: at least 1.7118 %, at most 2.3235 %); the bounds reach over the budget"},
		"late requests": {
			"late requests = 0", func(s *story) {
				s.served("soak", 6000).first(2, func(r *results.Request) { r.Sent += 60e6; r.Done += 60e6 })
				s.requests[5].Outcome, s.requests[5].Sent, s.requests[5].Done = results.Undispatched, 0, 0
			}, results.Fail, "3 of 6,000 late or never sent"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(c.budget)
			c.story(s)
			oneBudget(t, s, c.verdict, c.measured)
		})
	}
}

// knownWay tells a way that went nowhere else.
func knownWay(r *results.Request) {
	if r.Hops == "" {
		r.Hops = "~a@n1/v1:4000"
	}
}

func TestBudgetsOnAWindow(t *testing.T) {
	// Requests are 10 ms apart; those from 10 s on, for 5 s, fail.
	broken := func(budget string) *story {
		s := newStory(budget).served("soak", 6000).phaseOver(time.Minute).step("enforce", "enforce deny", 10*time.Second, 15*time.Second)
		for i := 1000; i < 1500; i++ {
			failWith("eof")(&s.requests[i])
		}
		return s
	}
	for budget, want := range map[string]struct {
		verdict  results.Judgement
		measured string
	}{
		"failed requests = 0 during step enforce":                                          {results.Fail, "500 of 500 failed: 500 × eof"},
		"failed requests = 0 shown to 99% for 10s after step enforce":                      {results.Pass, "0 of 1,000 failed"},
		"failed requests = 0 shown to 99% for 10s before step enforce":                     {results.Pass, "0 of 1,000 failed"},
		"failed requests = 0 for 10s after step enforce":                                   {results.Inconclusive, "0 of 1,000 failed; 5,000 more requests are needed"},
		"failed requests = 0 shown to 99% for 50s after step enforce":                      {results.Inconclusive, "0 of 4,500 failed; the run ended before this window did"},
		"failed requests <= 500 shown to 99% from phase soak to phase soak":                {results.Pass, "500 of 6,000 failed: 500 × eof"},
		"failed requests = 0 shown to 99% from 1s after end of step enforce to phase soak": {results.Pass, "0 of 4,400 failed"},
		"failed requests = 0 during step enforce:deny":                                     {results.Fail, "500 of 500 failed: 500 × eof"},
		"failed requests = 0 during step enforce#2":                                        {results.Inconclusive, "step enforce#2 was not recorded"},
		"failed requests = 0 from step enforce to begin of phase soak":                     {results.Inconclusive, "its window ends at 0.0 s, before it begins at 10.0 s"},
		"recovery within 6s after begin of step enforce":                                   {results.Pass, "requests failed until 5.0 s after it, 500 of them (1 time)"},
		"recovery within 4s after begin of step enforce":                                   {results.Fail, "requests failed until 5.0 s after it, 500 of them (1 time)"},
		"recovery within 4s after step enforce":                                            {results.Pass, "no request failed (1 time)"},
		"recovery within 4s after event node:not-ready":                                    {results.Inconclusive, "no event node:not-ready was recorded"},
	} {
		t.Run(budget, func(t *testing.T) { oneBudget(t, broken(budget), want.verdict, want.measured) })
	}
	open := broken("failed requests = 0 during step enforce")
	open.events = open.events[:len(open.events)-1]
	oneBudget(t, open, results.Inconclusive, "step enforce has no end in the record")
}

func TestRecoveryIsJudgedEveryTime(t *testing.T) {
	const budget = "recovery within 3s after event node:not-ready"
	s := newStory(budget).served("soak", 6000).phaseOver(time.Minute)
	for _, at := range []time.Duration{5 * time.Second, 30 * time.Second} {
		s.event(at, results.Node, "worker", results.FieldState, results.StateNotReady)
	}
	for i := 510; i < 700; i++ {
		failWith("timeout")(&s.requests[i])
	}
	oneBudget(t, s, results.Pass, "requests failed until 2.0 s after it, 190 of them (2 times)")
	for i := 3000; i < 3400; i++ {
		failWith("timeout")(&s.requests[i])
	}
	oneBudget(t, s, results.Fail, "requests failed until 4.0 s after it, 400 of them (2 times)")

	short := newStory(budget).served("soak", 600).event(time.Second, results.Node, "worker", results.FieldState, results.StateNotReady)
	oneBudget(t, short, results.Inconclusive, "no request failed; the record ends before 10 s went by without a failure (1 time)")

	sparse := newStory(budget).served("soak", 100).event(0, results.Node, "worker", results.FieldState, results.StateNotReady)
	for i := range sparse.requests {
		r := &sparse.requests[i]
		r.Scheduled = int64(i) * int64(time.Second)
		r.Sent, r.Done = r.Scheduled, r.Scheduled+1e6
	}
	oneBudget(t, sparse, results.Inconclusive, "no request failed; only 10 requests in the 10 s after it, 30 are needed (1 time)")
}

func TestALongSeriesJoinsItsSlices(t *testing.T) {
	s := newSeries()
	for _, at := range []time.Duration{0, 8 * time.Hour, 20 * time.Hour} {
		s.add(&results.Request{Scheduled: int64(at), Outcome: results.Failed}, false)
	}
	require.LessOrEqual(t, len(s.all), maxSlices)
	require.Equal(t, int64(400*time.Millisecond), s.width)
	require.Equal(t, uint32(1), s.all[0].failed)
	require.Equal(t, 400*time.Millisecond, s.after(0).took, "ten clean seconds come after the first")
}
