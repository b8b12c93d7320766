package verdict

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

var cut = flag.String("cut", "", "cut an excerpt of each cause from this run folder into testdata/recorded; with -update")

const (
	excerptAsked  = 20 // requests of the cause
	excerptAlike  = 3  // of them that failed at the same place
	excerptServed = 80 // others around them, at least
	excerptNear   = 70 * time.Second
)

// excerpt is the part of a run that one of its causes is read from, without what
// is of no use to that: who ran it, on what machine, order ids.
type excerpt struct {
	name     string // the cause's kind, after "slow-" where requests were too slow
	requests []results.Request
	events   []results.Event
	probes   []results.Probe
	run      results.Run
	where    map[string]int // requests of the cause by where they failed
}

// cutExcerpts returns an excerpt of each cause of failed requests, and of slow ones
// whose cause is known.
func cutExcerpts(t *testing.T, f *results.Folder) []excerpt {
	t.Helper()
	run, err := f.Run()
	require.NoError(t, err)
	events, _, err := f.Events()
	require.NoError(t, err)
	probes, _, err := f.Probes()
	require.NoError(t, err)
	budgets, err := parseBudgets(run)
	require.NoError(t, err)
	a := newAttribution(run, budgets, events, probes)
	var asked []results.Request
	var blamed []blame
	_, err = results.EachPrepared(f, newEdges().readWay, func(r *results.Request, told []hops.Hop) error {
		a.learn(r, told)
		limit := a.limits[r.Phase]
		tooSlow := limit > 0 && r.Latency() > int64(limit)
		switch {
		case r.Outcome == results.Undispatched:
			return nil
		case r.Outcome == results.Failed:
			asked, blamed = append(asked, *r), append(blamed, a.blame(r, told))
		case tooSlow:
			asked, blamed = append(asked, *r), append(blamed, a.slow(r, told))
		}
		a.load.host.add(r, tooSlow && r.Outcome != results.Failed)
		return nil
	})
	require.NoError(t, err)
	a.load.host.count()
	found := map[string]*excerpt{}
	for i := range asked {
		if asked[i].Outcome != results.Failed && blamed[i].kind == causeUnknown {
			blamed[i], _ = a.load.host.explain(&asked[i], blamed[i])
		}
		name := a.answer(blamed[i]).kind
		if slow := asked[i].Outcome != results.Failed; slow && name == causeUnknown {
			continue // there are many in any run
		} else if slow {
			name = "slow-" + name
		}
		x := found[name]
		if x == nil {
			x = &excerpt{name: name, where: map[string]int{}}
			found[name] = x
		}
		alike, where := excerptAlike, asked[i].Hop+asked[i].Class
		switch name {
		case causeVersion:
			alike = excerptAsked // it takes many to tell that one version is worse than another
		case "slow-" + causeHost:
			alike, where = 1, at(a.load.host.since(&asked[i])[0].From) // and many seconds, that slow ones come with a busy host
		}
		if x.where[where] < alike && len(x.requests) < excerptAsked {
			x.where[where]++
			x.requests = append(x.requests, asked[i])
		}
	}
	limits := []string{"failed requests = 0"}
	for i, b := range budgets {
		if b.Subject == budget.EndToEnd {
			limits = append(limits, run.Budgets[i])
		}
	}
	var all []excerpt
	for _, name := range slices.Sorted(maps.Keys(found)) {
		x := found[name]
		x.surround(t, f, a.limits, events, probes)
		x.run = results.Run{
			ID: name, Scenario: "recorded", Mesh: run.Mesh, Shop: run.Shop, Phases: run.Phases, Budgets: limits,
			Traffic:   results.Traffic{MaxLate: run.Traffic.MaxLate, MaxLateShare: run.Traffic.MaxLateShare},
			StartedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), EndedAt: time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC),
		}
		all = append(all, *x)
	}
	return all
}

// surround adds what was near the requests that are asked about: others between
// the first and the last that were served in time, events, and what was found out
// about pods.
func (x *excerpt) surround(t *testing.T, f *results.Folder, limits map[string]time.Duration, events []results.Event, probes []results.Probe) {
	t.Helper()
	from, to := x.requests[0].Scheduled, x.requests[0].Done
	called := map[string]bool{} // by those that are asked about, in the end
	for _, r := range x.requests {
		from, to = min(from, r.Scheduled), max(to, r.Done)
		called[r.Hop[strings.LastIndex(r.Hop, ">")+1:]] = true
	}
	var served, alike []results.Request
	_, err := f.EachRequest(func(r results.Request) error {
		inTime := limits[r.Phase] == 0 || r.Latency() <= int64(limits[r.Phase])
		if r.Outcome != results.OK || !inTime || r.Scheduled < from-int64(time.Second) || r.Scheduled > to+int64(time.Second) {
			return nil
		}
		served = append(served, r)
		for callee := range called {
			if callee != "" && (strings.Contains(r.Hops, "("+callee+":") || strings.Contains(r.Hops, ","+callee+":")) {
				alike = append(alike, r)
				return nil
			}
		}
		return nil
	})
	require.NoError(t, err)
	if len(alike) >= excerptServed {
		served = alike
	}
	every := max(len(served)/excerptServed, 1)
	for i := 0; i < len(served); i += every {
		x.requests = append(x.requests, served[i])
	}
	slices.SortStableFunc(x.requests, func(a, b results.Request) int { return cmp.Compare(a.Done, b.Done) })
	for i := range x.requests {
		if r := &x.requests[i]; r.OrderID != "" {
			r.Error = strings.ReplaceAll(r.Error, r.OrderID, "of a customer")
			r.OrderID = ""
		}
	}
	near := func(e results.Event) bool { return from-int64(excerptNear) <= e.At && e.At <= to+int64(excerptNear)/2 }
	for _, e := range events {
		switch e.Kind {
		case results.StepBegin, results.StepEnd, results.PhaseBegin, results.PhaseEnd:
			x.events = append(x.events, e)
		case results.Pod, results.Endpoints, results.Node:
			if near(e) {
				x.events = append(x.events, e)
			}
		}
	}
	flawed := flaws{}
	flawed.take(probes)
	doubted := slices.ContainsFunc(slices.Collect(maps.Keys(flawed)), func(pod string) bool { return called[serviceOfPod(pod)] })
	for _, p := range probes {
		switch {
		case p.Probe == results.ProbeInjection, p.Probe == results.ProbeLeaves:
			x.probes = append(x.probes, p)
		case p.Probe == results.ProbeIdentity && doubted:
			x.probes = append(x.probes, ofCalled(t, p, called))
		case p.Probe == results.ProbeHostLoad && x.name == "slow-"+causeHost:
			x.probes = append(x.probes, between(t, p, from, to))
		}
	}
}

// ofCalled leaves of a look at certificates those of the services that were called.
func ofCalled(t *testing.T, p results.Probe, called map[string]bool) results.Probe {
	t.Helper()
	seen, why := decode[results.Identity](p)
	require.Empty(t, why)
	seen.Presented = slices.DeleteFunc(seen.Presented, func(one results.Presented) bool { return !called[serviceOfPod(one.Pod)] })
	seen.Silent = slices.DeleteFunc(seen.Silent, func(pod string) bool { return !called[serviceOfPod(pod)] })
	seen.Proxies = len(seen.Presented) + len(seen.Silent)
	some, err := results.NewProbe(p.At, p.Probe, p.Phase, seen)
	require.NoError(t, err)
	return some
}

// between leaves of how busy the host was the seconds around two instants.
func between(t *testing.T, p results.Probe, from, to int64) results.Probe {
	t.Helper()
	seen, why := decode[results.HostLoad](p)
	require.Empty(t, why)
	seen.Seconds = slices.DeleteFunc(seen.Seconds, func(s results.HostSecond) bool {
		return s.To < from-int64(time.Second) || s.From > to+int64(time.Second)
	})
	some, err := results.NewProbe(p.At, p.Probe, p.Phase, seen)
	require.NoError(t, err)
	return some
}

// write makes a run folder of an excerpt.
func (x excerpt) write(t *testing.T, root string) *results.Folder {
	t.Helper()
	f, err := results.Create(root, x.run.ID)
	require.NoError(t, err)
	for _, r := range x.requests {
		require.NoError(t, f.AddRequest(r))
	}
	for _, e := range x.events {
		require.NoError(t, f.AddEvent(e))
	}
	for _, p := range x.probes {
		require.NoError(t, f.AddProbe(p))
	}
	require.NoError(t, f.WriteRun(x.run))
	require.NoError(t, f.Close())
	return f
}

// causesIn returns what is told of the causes of failed requests, or of slow ones,
// the most frequent first.
func causesIn(t *testing.T, f *results.Folder, slow bool) (all []told) {
	t.Helper()
	v, err := Evaluate(f)
	require.NoError(t, err)
	causes := v.Causes
	if slow {
		causes = v.SlowCauses
	}
	require.NotEmpty(t, causes)
	for _, c := range causes {
		all = append(all, toldOf(c))
	}
	return all
}

// Excerpts of runs that took place on clusters are judged as they were then.
func TestRecordedFailuresAreToldAsTheGoldenFilesHaveIt(t *testing.T) {
	root := filepath.Join("testdata", "recorded")
	if *cut != "" {
		f, err := results.Open(*cut)
		require.NoError(t, err)
		for _, x := range cutExcerpts(t, f) {
			require.NoError(t, os.RemoveAll(filepath.Join(root, x.name)))
			x.write(t, root)
		}
	}
	folders, err := filepath.Glob(filepath.Join(root, "*", results.RunFile))
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, path := range folders {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f, err := results.Open(dir)
			require.NoError(t, err)
			kind, slow := strings.CutPrefix(filepath.Base(dir), "slow-")
			got := causesIn(t, f, slow)
			for _, c := range got {
				require.Equal(t, kind, c.Kind, c.Cause)
			}
			golden(t, filepath.Join(dir, "causes.json"), got)
		})
	}
}

func TestAnExcerptHoldsItsCauseAndLittleElse(t *testing.T) {
	for _, kind := range synthetic.Kinds() {
		t.Run(kind, func(t *testing.T) {
			s := storyOf(troubleOf(kind))
			s.run.Host.Kernel = "of somebody"
			for i := range s.requests {
				s.requests[i].OrderID = fmt.Sprint("chosen-by-somebody-", i)
				s.requests[i].Error += " of order " + s.requests[i].OrderID
			}
			var x excerpt
			for _, one := range cutExcerpts(t, s.write(t)) {
				if one.name == kind {
					x = one
				}
			}
			require.NotEmpty(t, x.requests)
			require.Less(t, len(x.requests), 2*(excerptAsked+excerptServed))
			f := x.write(t, t.TempDir())
			require.Equal(t, kind, causesIn(t, f, false)[0].Kind)
			for _, name := range evidenceFiles {
				raw := read(t, f, name)
				require.NotContains(t, raw, "of somebody")
				require.NotContains(t, raw, "chosen-by-somebody")
				require.Less(t, len(raw), 100<<10, name)
			}
		})
	}
}
