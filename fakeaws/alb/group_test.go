package alb

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// testGroup is a group whose targets are in the given states; nobody checks them.
func testGroup(spec groupSpec, states ...health) *group {
	t := newTable(owner{}, 0, slog.New(slog.DiscardHandler))
	g := newGroup(&t.surroundings, spec)
	for i, state := range states {
		one := &target{endpoint: endpoint{IP: string(rune('a' + i))}, address: string(rune('a' + i)), state: state}
		one.transport.Store(newTransport(HTTP, false, time.Minute))
		g.targets = append(g.targets, one)
	}
	return g
}

// taken picks n times and counts by address; "" is nobody.
func taken(g *group, n int, zone string) map[string]int {
	out := map[string]int{}
	for range n {
		t := g.pick(zone)
		if t == nil {
			out[""]++
			continue
		}
		out[t.address]++
		g.release(t)
	}
	return out
}

func TestRequestsGoToTargetsInService(t *testing.T) {
	for _, c := range []struct {
		name   string
		states []health
		want   map[string]int // of 6
	}{
		{"healthy targets take turns", []health{healthy, healthy, healthy}, map[string]int{"a": 2, "b": 2, "c": 2}},
		{"an unhealthy one is left out, and its neighbour takes no more than its part", []health{healthy, unhealthy, healthy}, map[string]int{"a": 3, "c": 3}},
		{"one that is being registered waits", []health{initial, healthy}, map[string]int{"b": 6}},
		{"one that drains gets nothing new", []health{draining, healthy}, map[string]int{"b": 6}},
		{"when all are unhealthy, all are taken", []health{unhealthy, unhealthy, unhealthy}, map[string]int{"a": 2, "b": 2, "c": 2}},
		{"failing open does not mean those that were never in service", []health{initial, unhealthy, draining, unused}, map[string]int{"b": 6}},
		{"new and draining targets alone are nobody", []health{initial, draining}, map[string]int{"": 6}},
		{"a group without targets is nobody", nil, map[string]int{"": 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, taken(testGroup(groupSpec{attributes: attributes{CrossZone: true}}, c.states...), 6, ""))
		})
	}
}

func TestSlowStartGivesAShareThatGrows(t *testing.T) {
	began := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		after time.Duration
		slow  int // of 1000 requests to three targets
	}{
		{"nothing at the beginning", 0, 0},
		{"a tenth of a full share after a tenth of the time", 6 * time.Second, 47}, // 1000·0.1/2.1
		{"half of it half-way", 30 * time.Second, 200},                             // 1000·0.5/2.5
		{"all of it at the end", 60 * time.Second, 333},
		{"and ever after", time.Hour, 333},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := testGroup(groupSpec{attributes: attributes{CrossZone: true, SlowStart: time.Minute}}, healthy, healthy, healthy)
			g.targets[2].slowSince = began
			g.now = func() time.Time { return began.Add(c.after) }
			got := taken(g, 1000, "")
			require.InDelta(t, c.slow, got["c"], 1)
			require.InDelta(t, got["a"], got["b"], 1, "the others share the rest")
		})
	}
}

func TestSlowStartBegins(t *testing.T) {
	const of = time.Minute
	for _, c := range []struct {
		name  string
		spec  time.Duration
		other health
		slow  bool // the other is in slow start itself
		want  bool
	}{
		{"beside a target that carries the rest", of, healthy, false, true},
		{"not when it is off", 0, healthy, false, false},
		{"not as the only healthy one", of, unhealthy, false, false},
		{"not beside one that begins slowly, too", of, healthy, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := testGroup(groupSpec{Check: checkSpec{HealthyAt: 2, UnhealthyAt: 2}, attributes: attributes{SlowStart: c.spec}}, c.other, initial)
			if c.slow {
				g.targets[0].slowSince = g.now()
			}
			g.note(g.targets[1], &tally{}, nil)
			require.Equal(t, healthy, g.targets[1].state)
			require.Equal(t, c.want, !g.targets[1].slowSince.IsZero())
		})
	}
	g := testGroup(groupSpec{Check: checkSpec{HealthyAt: 1, UnhealthyAt: 1}, attributes: attributes{SlowStart: of}}, healthy, initial)
	count := &tally{}
	g.note(g.targets[1], count, nil)
	g.note(g.targets[1], count, errors.New("down"))
	require.True(t, g.targets[1].slowSince.IsZero(), "an unhealthy target is out of it")
	g.note(g.targets[1], count, nil)
	require.False(t, g.targets[1].slowSince.IsZero(), "and begins again")
}

func TestTargetsThatAllBeginSlowlyStillServe(t *testing.T) {
	g := testGroup(groupSpec{attributes: attributes{CrossZone: true, SlowStart: time.Minute}}, healthy, healthy)
	now := g.now()
	for _, target := range g.targets {
		target.slowSince = now
	}
	g.now = func() time.Time { return now }
	require.Equal(t, map[string]int{"a": 3, "b": 3}, taken(g, 6, ""))
}

func TestLeastOutstandingTakesWhoHasLeastToDo(t *testing.T) {
	g := testGroup(groupSpec{attributes: attributes{CrossZone: true, LeastOutstanding: true}}, healthy, healthy, unhealthy)
	for range 4 {
		require.NotNil(t, g.pick(""))
	}
	require.Equal(t, []int64{2, 2, 0}, []int64{g.targets[0].busy.Load(), g.targets[1].busy.Load(), g.targets[2].busy.Load()}, "equals take turns")
	g.release(g.targets[1])
	g.release(g.targets[1])
	require.Equal(t, "b", g.pick("").address)
	require.Equal(t, "b", g.pick("").address)
}

func TestZones(t *testing.T) {
	zoned := func(crossZone bool, states ...health) *group {
		g := testGroup(groupSpec{attributes: attributes{CrossZone: crossZone}}, states...)
		for i, zone := range []string{"us-east-1a", "us-east-1b"} {
			g.targets[i].Zone = zone
		}
		return g
	}
	for _, c := range []struct {
		name      string
		crossZone bool
		states    []health
		want      map[string]int // of 4 that come in through us-east-1a
		serves    bool           // whether us-east-1a is in the DNS
	}{
		{"cross-zone, every target is everybody's", true, []health{healthy, healthy}, map[string]int{"a": 2, "b": 2}, true},
		{"cross-zone, another zone takes over", true, []health{unhealthy, healthy}, map[string]int{"b": 4}, true},
		{"zonal, a zone keeps to itself", false, []health{healthy, healthy}, map[string]int{"a": 4}, true},
		{"zonal, a sick zone fails open for whom it still has, and nobody new comes", false, []health{unhealthy, healthy}, map[string]int{"a": 4}, false},
		{"zonal, a zone without anybody in service", false, []health{initial, healthy}, map[string]int{"": 4}, false},
		{"zonal, when no zone is well, none is shut out", false, []health{unhealthy, unhealthy}, map[string]int{"a": 4}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := zoned(c.crossZone, c.states...)
			require.Equal(t, c.want, taken(g, 4, "us-east-1a"))
			require.Equal(t, c.serves, g.serves("us-east-1a"))
		})
	}

	table := newTable(owner{}, 0, slog.New(slog.DiscardHandler))
	require.Empty(t, table.entryZone(), "no zones are known")
	table.live.Store(&routes{zones: []string{"us-east-1a", "us-east-1b"}, groups: map[string]*group{"g": zoned(false, healthy, healthy)}})
	require.NotEqual(t, table.entryZone(), table.entryZone(), "zones take turns")
	table.live.Store(&routes{zones: []string{"us-east-1a", "us-east-1b"}, groups: map[string]*group{"g": zoned(false, unhealthy, healthy)}})
	require.Equal(t, []string{"us-east-1b", "us-east-1b"}, []string{table.entryZone(), table.entryZone()})
}

// life is a group whose targets answer health checks as told, in fake time.
type life struct {
	*group
	ctx context.Context
	mu  sync.Mutex
	bad map[string]error // by IP
}

// ails makes the checks of an address fail from now on, or succeed when err is nil.
func (l *life) ails(ip string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bad[ip] = err
}

func newLife(t *testing.T, spec groupSpec) *life {
	table := newTable(owner{}, time.Second, slog.New(slog.DiscardHandler))
	l := &life{bad: map[string]error{}, ctx: t.Context()}
	table.checker = func(_ checkSpec, e endpoint) func(context.Context) error {
		return func(context.Context) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.bad[e.IP]
		}
	}
	l.group = newGroup(&table.surroundings, spec)
	return l
}

func lifeSpec() groupSpec {
	return groupSpec{
		Check:      checkSpec{Interval: 10 * time.Second, Timeout: time.Second, HealthyAt: 3, UnhealthyAt: 2},
		attributes: attributes{DeregistrationDelay: time.Minute, CrossZone: true},
	}
}

// seen is every target with its state and AWS's reason, after everybody is at rest.
func (l *life) seen() map[string]string {
	synctest.Wait()
	out := map[string]string{}
	for _, t := range l.describe().Targets {
		out[t.Address] = t.Health + " " + t.Reason
	}
	return out
}

func TestALifeOfATarget(t *testing.T) {
	a, b := endpoint{IP: "10.0.0.1", Port: 80}, endpoint{IP: "10.0.0.2", Port: 80}
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, lifeSpec())
		defer l.retire()
		l.register(l.ctx, []endpoint{a})
		require.Equal(t, map[string]string{"10.0.0.1:80": "initial Elb.RegistrationInProgress"}, l.seen())
		require.Nil(t, l.pick(""), "the load balancer does not know it yet")
		time.Sleep(time.Second)
		require.Equal(t, map[string]string{"10.0.0.1:80": "healthy "}, l.seen(), "one check is enough at first")

		l.ails("10.0.0.1", &mismatchError{503, "200"})
		time.Sleep(10 * time.Second)
		require.Equal(t, "healthy ", l.seen()["10.0.0.1:80"], "one failure is not enough")
		time.Sleep(10 * time.Second)
		require.Equal(t, "unhealthy Target.ResponseCodeMismatch", l.seen()["10.0.0.1:80"])
		require.Equal(t, "Health checks failed with these codes: [503]", l.describe().Targets[0].Description)
		l.ails("10.0.0.1", context.DeadlineExceeded)
		time.Sleep(10 * time.Second)
		require.Equal(t, "unhealthy Target.Timeout", l.seen()["10.0.0.1:80"], "the reason is the last one")
		l.ails("10.0.0.1", nil)
		time.Sleep(20 * time.Second)
		require.Equal(t, "unhealthy Target.Timeout", l.seen()["10.0.0.1:80"], "two successes are not enough to come back")
		time.Sleep(10 * time.Second)
		require.Equal(t, "healthy ", l.seen()["10.0.0.1:80"])

		l.ails("10.0.0.2", errors.New("connection refused"))
		l.register(l.ctx, []endpoint{a, b})
		time.Sleep(time.Second)
		require.Equal(t, "initial Elb.InitialHealthChecking", l.seen()["10.0.0.2:80"])
		require.Equal(t, map[string]int{"10.0.0.1:80": 4}, taken(l.group, 4, ""))
		time.Sleep(10 * time.Second)
		require.Equal(t, "unhealthy Target.FailedHealthChecks", l.seen()["10.0.0.2:80"])
	})
}

func TestALateDeregistrationStillSendsRequests(t *testing.T) {
	a, b := endpoint{IP: "10.0.0.1", Port: 80}, endpoint{IP: "10.0.0.2", Port: 80}
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, lifeSpec())
		defer l.retire()
		l.register(l.ctx, []endpoint{a, b})
		time.Sleep(time.Second)
		synctest.Wait()

		l.register(l.ctx, []endpoint{b})
		require.Equal(t, map[string]int{"10.0.0.1:80": 2, "10.0.0.2:80": 2}, taken(l.group, 4, ""), "the news has not spread")
		time.Sleep(500 * time.Millisecond)
		l.register(l.ctx, []endpoint{a, b})
		time.Sleep(time.Second)
		require.Equal(t, map[string]string{"10.0.0.1:80": "healthy ", "10.0.0.2:80": "healthy "}, l.seen(), "it came back in time")

		l.register(l.ctx, []endpoint{b})
		time.Sleep(time.Second)
		require.Equal(t, map[string]string{"10.0.0.1:80": "draining Target.DeregistrationInProgress", "10.0.0.2:80": "healthy "}, l.seen())
		require.Equal(t, map[string]int{"10.0.0.2:80": 4}, taken(l.group, 4, ""))
		time.Sleep(time.Minute)
		require.Equal(t, map[string]string{"10.0.0.2:80": "healthy "}, l.seen(), "unused, and so not listed")
	})
}

func TestTheDeregistrationDelayEndsRequestsThatOutliveIt(t *testing.T) {
	a := endpoint{IP: "10.0.0.1", Port: 80}
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, lifeSpec())
		defer l.retire()
		l.register(l.ctx, []endpoint{a})
		time.Sleep(time.Second)
		synctest.Wait()
		one := l.pick("")
		require.NotNil(t, one)
		l.register(l.ctx, nil)
		time.Sleep(time.Second + 59*time.Second)
		synctest.Wait()
		require.NoError(t, one.over.Err(), "it may go on for a minute")
		require.Equal(t, int64(1), l.describe().Targets[0].UnderWay)
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(one.over), errDeregistered)
		l.release(one)
	})
}

func TestChangedSettingsKeepTheTargets(t *testing.T) {
	a := endpoint{IP: "10.0.0.1", Port: 80}
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, lifeSpec())
		defer l.retire()
		l.register(l.ctx, []endpoint{a})
		time.Sleep(time.Second)
		require.Equal(t, "healthy ", l.seen()["10.0.0.1:80"])
		before, pool := l.targets[0], l.targets[0].transport.Load()

		changed := lifeSpec()
		changed.Check.Interval, changed.Check.UnhealthyAt, changed.Idle = 2*time.Second, 1, time.Second
		l.configure(l.ctx, changed)
		require.Equal(t, "healthy ", l.seen()["10.0.0.1:80"])
		require.Same(t, before, l.targets[0])
		require.NotSame(t, pool, l.targets[0].transport.Load(), "another idle timeout, other connections")
		l.ails("10.0.0.1", errors.New("down"))
		time.Sleep(2 * time.Second)
		require.Equal(t, "unhealthy Target.FailedHealthChecks", l.seen()["10.0.0.1:80"], "checked as it is asked for now")
	})
}

func TestATargetWithoutARouteIsUnusedAndGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, lifeSpec())
		defer l.retire()
		lost := endpoint{IP: "10.0.0.1", Port: 80, Unusable: "there is no route to the pod"}
		l.register(l.ctx, []endpoint{lost})
		time.Sleep(time.Minute)
		require.Equal(t, map[string]string{"10.0.0.1:80": "unused Target.IpUnusable"}, l.seen())
		require.Equal(t, "there is no route to the pod", l.describe().Targets[0].Detail)
		require.Nil(t, l.pick(""))
		found := lost
		found.Unusable = ""
		l.register(l.ctx, []endpoint{found})
		time.Sleep(time.Second)
		require.Equal(t, map[string]string{"10.0.0.1:80": "healthy "}, l.seen())
	})
}

func BenchmarkPick(b *testing.B) {
	g := testGroup(groupSpec{attributes: attributes{CrossZone: true}}, healthy, healthy, healthy, healthy, healthy, healthy)
	b.ReportAllocs()
	for b.Loop() {
		g.release(g.pick(""))
	}
}
