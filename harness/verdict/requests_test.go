package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestBudgetsOnRequests(t *testing.T) {
	slow := func(d time.Duration) func(*results.Request) {
		return func(r *results.Request) { r.Done = r.Sent + int64(d) }
	}
	late := func(r *results.Request) {
		r.Sent += int64(60 * time.Millisecond)
		r.Done += int64(60 * time.Millisecond)
	}
	never := func(r *results.Request) { r.Outcome, r.Sent, r.Done = results.Undispatched, 0, 0 }
	reject := func(r *results.Request) { r.Outcome, r.Status = results.Rejected, 409 }
	for name, c := range map[string]struct {
		budget   string
		story    func(*story)
		verdict  results.Judgement
		measured string
	}{
		"no failure in enough requests passes": {
			"failed requests = 0", func(s *story) { s.served("soak", 6000) }, results.Pass, "0 of 6,000 failed"},
		"no failure in too few requests is inconclusive and says how many are missing": {
			"failed requests = 0", func(s *story) { s.served("soak", 5999) }, results.Inconclusive,
			"0 of 5,999 failed; 1 more request is needed"},
		"one failure breaks a budget of none, however few requests": {
			"failed requests = 0", func(s *story) { s.served("soak", 10).first(1, failWith("reset")) }, results.Fail,
			"1 of 10 failed: 1 × reset"},
		"one failure in a million is still one": {
			"failed requests = 0", func(s *story) { s.served("soak", 30000).first(1, failWith("reset")) }, results.Fail,
			"1 of 30,000 failed: 1 × reset"},
		"as many failures as allowed pass": {
			"failed requests <= 2", func(s *story) { s.served("soak", 6000).first(2, failWith("eof")) }, results.Pass,
			"2 of 6,000 failed: 2 × eof"},
		"a business answer is no failure": {
			"failed requests = 0", func(s *story) { s.served("soak", 6000).each(2, reject) }, results.Pass, "0 of 6,000 failed"},
		"a request that never left is not seen": {
			"failed requests = 0", func(s *story) { s.served("soak", 6000).first(1, never) }, results.Inconclusive,
			"0 of 5,999 failed; 1 more request is needed"},
		"failures in another phase do not count": {
			"failed requests = 0 in soak", func(s *story) { s.served("warm", 5).each(1, failWith("eof")); s.served("soak", 6000) }, results.Pass,
			"0 of 6,000 failed"},
		"a phase without requests is inconclusive": {
			"failed requests = 0", func(*story) {}, results.Inconclusive, "no request was recorded in this phase"},

		"6,000 requests without failure show 99.95 %": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000) }, results.Pass,
			"100 % of 6,000 served (95 % sure: at least 99.95 %)"},
		"5,000 do not": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 5000) }, results.Inconclusive,
			"100 % of 5,000 served (95 % sure: at least 99.9401 %); 1,000 more requests are needed"},
		"600 requests show 99.5 %": {
			"availability >= 99.5%", func(s *story) { s.served("soak", 600) }, results.Pass,
			"100 % of 600 served (95 % sure: at least 99.5019 %)"},
		"a failure within the budget leaves 6,000 requests without proof, and says how many prove it": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).first(1, failWith("eof")) }, results.Inconclusive,
			"99.9833 % of 6,000 served (95 % sure: at least 99.9209 %); 9,486 requests would show it with this many failures"},
		"with that many requests it is shown": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 9486).first(1, failWith("eof")) }, results.Pass,
			"99.9894 % of 9,486 served (95 % sure: at least 99.95 %)"},
		"more failures than the budget allows, and yet not more than by chance, are inconclusive": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).each(1500, failWith("eof")) }, results.Inconclusive,
			"99.9333 % of 6,000 served (95 % sure: at least 99.8475 %); 18,305 requests would show it with this many failures"},
		"failures in one burst prove less": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).first(4, failWith("eof")) }, results.Inconclusive,
			"99.9333 % of 6,000 served (95 % sure: at least 99.6571 %); 18,305 requests would show it with this many failures"},
		"more than by chance are a fail": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).each(857, failWith("eof")) }, results.Fail,
			"99.8666 % of 6,000 served (95 % sure: at least 99.7595 %)"},
		"in one burst as well: what was seen counts in full": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).first(7, failWith("eof")) }, results.Fail,
			"99.8833 % of 6,000 served (95 % sure: at least 99.3937 %)"},
		"failures that the missing requests could still make up for are inconclusive": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 500).first(1, failWith("eof")) }, results.Inconclusive,
			"99.8 % of 500 served (95 % sure: at least 99.0547 %); 5,500 more requests are needed"},
		"failures that nothing can make up for are a fail at once": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 500).first(4, failWith("eof")) }, results.Fail,
			"99.2 % of 500 served (95 % sure: at least 98.1787 %)"},
		"nothing served is a fail": {
			"availability >= 99.95%", func(s *story) { s.served("soak", 6000).each(1, failWith("eof")) }, results.Fail,
			"0 % of 6,000 served (95 % sure: at least 0 %)"},

		"a percentile whose whole interval is under the budget passes": {
			"end-to-end p99 < 100ms", func(s *story) { s.served("soak", 6000) }, results.Pass,
			"p99 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"one whose whole interval is over it fails": {
			"end-to-end p99 < 100ms", func(s *story) { s.served("soak", 6000).each(20, slow(200*time.Millisecond)) }, results.Fail,
			"p99 200 ms (95 %: 200 to 200 ms), 200 ms from sending"},
		"one whose interval reaches over it is inconclusive": {
			"end-to-end p99 < 100ms", func(s *story) { s.served("soak", 6000).each(105, slow(200*time.Millisecond)) }, results.Inconclusive,
			"p99 5.00 ms (95 %: 5.00 to 200 ms), 5.00 ms from sending; the interval reaches over the budget"},
		"a percentile at the very limit is over a budget of less": {
			"end-to-end p50 < 5ms", func(s *story) { s.served("soak", 6000) }, results.Fail,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"the wait before sending counts": {
			"end-to-end p50 < 40ms", func(s *story) {
				s.served("soak", 6000).each(1, func(r *results.Request) { r.Sent += 45e6; r.Done += 45e6 })
			}, results.Fail,
			"p50 50.0 ms (95 %: 50.0 to 50.0 ms), 5.00 ms from sending"},
		"a sender that is late too often leaves latency inconclusive": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 6000).first(61, late) }, results.Inconclusive,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; 1.01 % of the requests left late or never, 1 % may"},
		"a sender that is late seldom does not": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 6000).first(60, late) }, results.Pass,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"requests that never left count as late": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 6100).first(62, never) }, results.Inconclusive,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; 1.01 % of the requests left late or never, 1 % may"},
		"even a latency that is over the budget is not blamed on the shop when the sender was late": {
			"end-to-end p50 < 4ms", func(s *story) { s.served("soak", 6000).first(70, late) }, results.Inconclusive,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; 1.16 % of the requests left late or never, 1 % may"},
		"a record that does not say what late is leaves latency inconclusive": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 6000); s.run.Traffic.MaxLate = 0 }, results.Inconclusive,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; the record does not say when a request is late"},
		"latency of too few requests is inconclusive": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 5990) }, results.Inconclusive,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; 10 more requests are needed"},
		"but latency of few requests that is surely over the budget fails": {
			"end-to-end p50 < 4ms", func(s *story) { s.served("soak", 100) }, results.Fail,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"a percentile beyond what the requests can show is inconclusive": {
			"end-to-end p99.99 < 100ms", func(s *story) { s.served("soak", 6000) }, results.Inconclusive,
			"p99.99 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; 30,887 more requests are needed"},
		"a latency that does not hold names a host without CPU to spare": {
			"end-to-end p50 < 4ms", func(s *story) {
				s.served("soak", 6000).probe(results.ProbeHostLoad, results.HostLoad{Lasted: time.Minute, Busy: 0.971})
			}, results.Fail,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending; the host's CPUs were 97 % busy"},
		"one that had some is not named": {
			"end-to-end p50 < 4ms", func(s *story) {
				s.served("soak", 6000).probe(results.ProbeHostLoad, results.HostLoad{Lasted: time.Minute, Busy: 0.8})
			}, results.Fail,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"a busy host is no excuse and no obstacle": {
			"end-to-end p50 < 100ms", func(s *story) {
				s.served("soak", 6000).probe(results.ProbeHostLoad, results.HostLoad{Lasted: time.Minute, Busy: 1})
			}, results.Pass,
			"p50 5.00 ms (95 %: 5.00 to 5.00 ms), 5.00 ms from sending"},
		"what takes longer than a minute counts as a minute": {
			"end-to-end p50 < 100ms", func(s *story) { s.served("soak", 6000).each(1, slow(time.Hour)) }, results.Fail,
			"p50 60000 ms (95 %: 60000 to 60000 ms), 60000 ms from sending"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(c.budget)
			c.story(s)
			v := s.judge(t)
			require.Len(t, v.Budgets, 1)
			got := v.Budgets[0]
			require.Equal(t, c.measured, got.Measured)
			require.Equal(t, c.verdict, got.Verdict)
			require.Equal(t, c.verdict, v.Verdict, "%v", v.Reasons)
			require.Equal(t, "soak", got.Phase)
			require.Equal(t, c.budget, got.Text)
		})
	}
}

func TestABudgetWithoutPhasesIsJudgedInEveryJudgedPhaseByItself(t *testing.T) {
	s := newStory("failed requests = 0", "availability >= 99%")
	s.run.Phases = []results.PhasePlan{{Name: "one", Judged: true}, {Name: "warm"}, {Name: "two", Judged: true}}
	s.served("one", 300).served("warm", 3).served("two", 300)
	s.requests[301].Outcome = results.Failed // in warm
	s.requests[400].Outcome = results.Failed // in two
	v := s.judge(t)
	var rows []string
	for _, b := range v.Budgets {
		rows = append(rows, b.Phase+" "+string(b.Verdict))
	}
	require.Equal(t, []string{"one pass", "two fail", "one pass", "two inconclusive"}, rows)
	require.Equal(t, results.Fail, v.Verdict)
	require.Equal(t, results.RequestCounts{Total: 603, Failed: 2}, v.Requests)
}

func TestFailedRequestsAreQuotedAsEvidence(t *testing.T) {
	s := newStory("failed requests = 0").served("soak", 20).first(10, func(r *results.Request) {
		failWith("http-502")(r)
		r.Hop, r.Pod, r.Error = "order-processing>payment-gateway", "order-processing-1", "  connection\nrefused "
	})
	evidence := s.judge(t).Budgets[0].Evidence
	require.Len(t, evidence, 5)
	require.Equal(t, "request 1 at 0.0 s: browse, http-502, hop order-processing>payment-gateway, pod order-processing-1: connection refused", evidence[0])
}

func TestAJudgedPhaseWithTooFewRequestsKeepsTheWholeFromPassing(t *testing.T) {
	s := newStory("failed requests = 0 in one")
	s.run.Phases = []results.PhasePlan{{Name: "one", Judged: true}, {Name: "two", Judged: true}}
	v := s.served("one", 6000).served("two", 4210).judge(t)
	require.Equal(t, results.Pass, v.Budgets[0].Verdict)
	require.Equal(t, results.Inconclusive, v.Verdict)
	require.Equal(t, []string{"too few requests were seen: in two 4,210 of 6,000"}, v.Reasons)
}

func TestPhaseFiguresHoldBothTimings(t *testing.T) {
	s := newStory("failed requests = 0").served("soak", 100).each(10, func(r *results.Request) {
		r.Sent += 100e6
		r.Done += 100e6
	})
	s.event(time.Second, results.PhaseBegin, "soak").event(9*time.Second, results.PhaseEnd, "soak")
	v := s.judge(t)
	require.Equal(t, []results.PhaseFigures{{
		Name: "soak", Requests: 100, P50Ms: 5.003, P99Ms: 105.023, MaxMs: 105.023, SentP50Ms: 5.003, SentP99Ms: 5.003,
		Late: 10, Judged: true, Needed: 6000, BeginMs: 1000, EndMs: 9000,
	}}, v.Phases)
	require.Equal(t, int64(10), v.Requests.Late)
	require.Equal(t, []results.RouteFigures{{Name: "browse", Requests: 100, P50Ms: 5.003, P99Ms: 105.023}}, v.Routes)
}

func TestATimelineNeverHasMoreBucketsThanFit(t *testing.T) {
	s := newStory("failed requests = 0").served("soak", 2000)
	for i := range s.requests {
		r := &s.requests[i]
		shift := int64(i) * int64(time.Second)
		r.Scheduled, r.Sent, r.Done = shift, shift, shift+1e6*int64(1+i%2)
	}
	s.first(3, failWith("eof"))
	line := s.judge(t).Timeline
	require.Equal(t, int64(8000), line.BucketMs)
	require.Len(t, line.Buckets, 250)
	require.Equal(t, results.Bucket{Requests: 8, Failed: 3, P50Ms: 1.003, P99Ms: 2.007, Heat: []int64{4, 0, 4}}, line.Buckets[0])
	total := int64(0)
	for _, b := range line.Buckets {
		total += b.Requests
	}
	require.Equal(t, int64(2000), total)
}

func TestTheShareOfALostAgentLeavesAPhaseInconclusive(t *testing.T) {
	lost := results.Missing{Agent: "load/1", Phase: "soak", Requests: 40, From: int64(3 * time.Second), Why: "its pod has gone"}
	for name, c := range map[string]struct {
		budget  string
		story   func(*story)
		verdict results.Judgement
		words   string
	}{
		"what would have passed is not shown": {
			"failed requests = 0", func(s *story) { s.served("soak", 6000) }, results.Inconclusive,
			"0 of 6,000 failed; 40 more requests have no result, being of lost agents"},
		"nor is a latency": {
			"end-to-end p90 < 50ms", func(s *story) { s.served("soak", 6000) }, results.Inconclusive, "40 more requests have no result"},
		"what was seen to fail has failed": {
			"failed requests = 0", func(s *story) { s.served("soak", 6000).first(1, failWith("eof")) }, results.Fail, "1 of 6,000 failed"},
		"the orders of a lost agent may be lost, too": {
			"orders lost or doubled = 0", func(s *story) { s.served("soak", 6000) }, results.Inconclusive, "40 more requests have no result"},
		"another phase is not concerned": {
			"failed requests = 0 in soak", func(s *story) {
				s.served("soak", 6000)
				s.run.Missing[0].Phase = "elsewhere"
			}, results.Pass, "0 of 6,000 failed"},
	} {
		s := newStory(c.budget)
		s.run.Missing = []results.Missing{lost}
		c.story(s)
		got := s.judge(t)
		row := got.Budgets[0]
		require.Equal(t, c.verdict, row.Verdict, name)
		require.Contains(t, row.Measured, c.words, name)
		if s.run.Missing[0].Phase == "soak" {
			require.Contains(t, row.Evidence, "agent load/1: 40 requests without a result from 3.0 s on: its pod has gone", name)
			require.Contains(t, got.Reasons, row.Evidence[len(row.Evidence)-1], name)
		}
	}
}
