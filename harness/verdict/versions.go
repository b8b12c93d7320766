package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// versions counts the calls that each version of a service was given, and those
// that failed, by time; of the database, those of each caller. They are read from
// the ways of requests.
type versions struct {
	services map[string]*serviceVersions
	of       map[string]string // by pod, of services with several
	callers  serviceVersions   // of the database
}

type serviceVersions struct {
	names []string
	calls []*versionCalls
}

// versionCalls are a version's, in slices of time from first on.
type versionCalls struct {
	first  int
	slices []sliceCalls
}

type sliceCalls struct{ n, failed int32 }

const (
	versionSlice = 10 * time.Second
	maxServices  = 32 // that a damaged record can make up, each of so many versions
	maxVersions  = 8

	// A version is to blame when its failures are beyond chance, and the others
	// fail at most so much of its share of calls.
	surely, farBetter = 0.001, 0.1
)

func newVersions() versions {
	return versions{services: map[string]*serviceVersions{}, of: map[string]string{}}
}

func (v *versions) learn(r *results.Request, told []hops.Hop) {
	for i := range told {
		h := &told[i]
		if h.Version == "" {
			if h.Service == shopchart.Database || h.Service == connectionHop {
				if calls := v.callers.version(h.Caller); calls != nil {
					calls.add(r.Scheduled, failedCall(h))
				}
			}
			continue
		}
		service := v.services[h.Service]
		if service == nil {
			if len(v.services) >= maxServices {
				continue
			}
			service = &serviceVersions{}
			v.services[h.Service] = service
		}
		calls := service.version(h.Version)
		if calls == nil {
			continue
		}
		failed := failedCall(h)
		if h.Depth == 0 {
			failed = r.Outcome == results.Failed && (r.Hop == "" || r.Hop == h.Service)
		}
		calls.add(r.Scheduled, failed)
		if len(service.names) > 1 && len(v.of) < maxPods {
			v.of[h.Pod] = h.Version
		}
	}
}

// version finds or makes the count of a version, nil when there are too many.
func (s *serviceVersions) version(name string) *versionCalls {
	if i := slices.Index(s.names, name); i >= 0 {
		return s.calls[i]
	}
	if len(s.names) >= maxVersions {
		return nil
	}
	calls := &versionCalls{}
	s.names, s.calls = append(s.names, name), append(s.calls, calls)
	return calls
}

func (c *versionCalls) add(at int64, failed bool) {
	i := int(at / int64(versionSlice))
	if i >= maxSeconds/int(versionSlice/time.Second) {
		return
	}
	if len(c.slices) == 0 {
		c.first = i
	}
	if i < c.first { // requests stand in the order in which they were done
		c.slices = append(make([]sliceCalls, c.first-i), c.slices...)
		c.first = i
	}
	for len(c.slices) <= i-c.first {
		c.slices = append(c.slices, sliceCalls{})
	}
	c.slices[i-c.first].n++
	if failed {
		c.slices[i-c.first].failed++
	}
}

// during adds up the slices from one to another.
func (c *versionCalls) during(from, to int) (n, failed int64) {
	for i := max(from, c.first); i < min(to, c.first+len(c.slices)); i++ {
		n += int64(c.slices[i-c.first].n)
		failed += int64(c.slices[i-c.first].failed)
	}
	return n, failed
}

// question asks whether the called pod's version is to blame. The pod stands for
// it where no answer has told the version yet.
func (v *versions) question(w way) question {
	switch version := v.of[w.calleePod]; {
	case version != "":
		return question{about: causeVersion, service: w.callee, version: version}
	case w.calleePod != "":
		return question{about: causeVersion, service: w.callee, pod: w.calleePod}
	}
	return question{}
}

// answer blames the version that was called when the others of its service
// served well at the same time.
func (v *versions) answer(b blame) blame {
	service, version := v.services[b.asks.service], cmp.Or(b.asks.version, v.of[b.asks.pod])
	if service == nil || !slices.Contains(service.names, version) {
		return b
	}
	from, to := service.together(version)
	var own, others sliceSum
	evidence := make([]string, 1)
	for i, name := range service.names {
		n, failed := service.calls[i].during(from, to)
		if name == version {
			own.add(n, failed)
			evidence[0] = fmt.Sprintf("%s %s: %s of %s calls failed", b.asks.service, name, count(failed), count(n))
			continue
		}
		others.add(n, failed)
		evidence = append(evidence, fmt.Sprintf("%s %s at the same time: %s of %s", b.asks.service, name, count(failed), count(n)))
	}
	if own.failed == 0 || others.n == 0 {
		return b
	}
	if beyondChance(own, others) >= surely || others.share() > farBetter*own.share() {
		return b
	}
	b.kind, b.cause = causeVersion, fmt.Sprintf("version %s of %s fails calls that its other versions serve", version, b.asks.service)
	b.near = append(b.near, evidence...)
	b.remedied(causeVersion)
	return b
}

// answerDatabase takes back that the database did not answer a service when it
// answered others at the same time: a service that has no time left for anything
// tells the same.
func (v *versions) answerDatabase(b blame) blame {
	i := slices.Index(v.callers.names, b.asks.service)
	if i < 0 {
		return b
	}
	own := v.callers.calls[i]
	var others sliceSum
	const spell = int(databaseSpell / versionSlice)
	from := int(b.asks.since) * spell
	for at := from; at < from+spell; at++ {
		if _, failed := own.during(at, at+1); failed == 0 {
			continue
		}
		for j, calls := range v.callers.calls {
			if j != i {
				others.add(calls.during(at, at+1))
			}
		}
	}
	if others.n < enoughServed || others.share() > surelyServed {
		return b
	}
	b.near = append(b.near, fmt.Sprintf("calls of others to the database at the same time: %s of %s failed", count(others.failed), count(others.n)))
	b.kind, b.cause = causeUnknown, "unknown: "+b.cause+", and answered others"
	b.mend, b.mode = "", ""
	return b
}

// answerSaturation takes back that a service had more than it could serve when it
// served nobody at that time, before or after: then it could not be reached.
func (v *versions) answerSaturation(b blame) blame {
	at := int(b.asks.since)
	served := true
	for i := at - 1; i <= at+1; i++ {
		var sum sliceSum
		if service := v.services[b.asks.service]; service != nil {
			for _, calls := range service.calls {
				sum.add(calls.during(i, i+1))
			}
		}
		served = served && sum.n > sum.failed
	}
	if served {
		return b
	}
	b.near = append(b.near, b.asks.service+" served nobody for a while")
	b.kind, b.cause = causeUnknown, "unknown: a proxy failed fast "+strings.TrimPrefix(b.cause, saturated)+", and it is not seen to be for load"
	b.mend, b.mode = "", ""
	return b
}

// databaseSpell is the time for which the database is asked about at once.
const databaseSpell = 3 * versionSlice

// surelyServed is the share of calls to the database that may fail when it is
// said to answer.
const surelyServed = 0.01

type sliceSum struct{ n, failed int64 }

func (s *sliceSum) add(n, failed int64) { s.n, s.failed = s.n+n, s.failed+failed }

func (s *sliceSum) share() float64 { return float64(s.failed) / float64(s.n) }

// beyondChance is how likely at least so many of all failures are own ones when all
// had the same chance to fail.
func beyondChance(own, others sliceSum) float64 {
	return 1 - binomialCDF(own.failed-1, own.failed+others.failed, float64(own.n)/float64(own.n+others.n))
}

// together returns the slices of time between which a version and others of its
// service were called.
func (s *serviceVersions) together(version string) (from, to int) {
	var own *versionCalls
	from = math.MaxInt
	for i, calls := range s.calls {
		if s.names[i] == version {
			own = calls
			continue
		}
		from, to = min(from, calls.first), max(to, calls.first+len(calls.slices))
	}
	return max(from, own.first), min(to, own.first+len(own.slices))
}
