package verdict

import (
	"math"
	"slices"

	"meshsim.dev/meshsim/results"
)

// flaws are certificates, by pod, that others could not accept when their
// proxies were looked at. Requests do not tell: who calls such a pod waits, or
// hears from its own proxy that there is nobody to send to.
type flaws map[string][]flaw

// flaw is a certificate that was seen to be wrong. It had been since the last
// look at which it was not, at the earliest, and was until the next.
type flaw struct {
	from, to int64
	remedy   string // "anchor", "expired" or "clock"
	why      string
}

// take reads all looks at the certificates of proxies, which come in order.
func (f flaws) take(probes []results.Probe) {
	looked := map[string]int64{} // when each pod's certificate was seen to be good
	for _, p := range probes {
		if p.Probe != results.ProbeIdentity {
			continue
		}
		seen, why := decode[results.Identity](p)
		if why != "" {
			continue
		}
		for i := range seen.Presented {
			f.look(&seen.Presented[i], p.At, looked)
		}
	}
}

func (f flaws) look(p *results.Presented, instant int64, good map[string]int64) {
	all := f[p.Pod]
	found, wrong := flawOf(p)
	switch {
	case !wrong:
		if n := len(all); n > 0 && all[n-1].to == math.MaxInt64 {
			all[n-1].to = instant
		}
		good[p.Pod] = instant
	case len(all) > 0 && all[len(all)-1].to == math.MaxInt64: // still
	case len(f) < maxPods:
		found.from, found.to = good[p.Pod], math.MaxInt64
		f[p.Pod] = append(all, found)
	}
}

// flawOf tells what is wrong with a certificate. One that has ended does not
// chain either; its reason says so.
func flawOf(p *results.Presented) (flaw, bool) {
	if p.Chains == nil || *p.Chains {
		return flaw{}, false
	}
	f := flaw{remedy: "anchor", why: "does not chain to the trust anchor: " + p.Why}
	switch {
	case mentions(p.Why, "expired"):
		f.remedy = "expired"
	case mentions(p.Why, "not yet valid"):
		f.remedy = "clock"
	}
	return f, true
}

// of returns what was wrong with a pod's certificate while a request was on its way.
func (f flaws) of(pod string, r *results.Request) (flaw, bool) {
	all := f[pod]
	i := slices.IndexFunc(all, func(one flaw) bool { return one.from <= r.Done && sentAt(r) <= one.to })
	if i < 0 {
		return flaw{}, false
	}
	return all[i], true
}

// distrusted blames certificates for a call that nobody answered, between two
// proxies of which one shows a certificate that the other cannot accept: the
// caller's, or that of every pod it could have called.
func (a *attribution) distrusted(r *results.Request, w way) (blame, bool) {
	waited := failedFast(r) || slices.Contains(hanging, r.Class)
	if !waited || w.caller == "" || w.calleePod != "" || len(a.around.flawed) == 0 {
		return blame{}, false
	}
	if found, wrong := a.around.flawed.of(w.callerPod, r); wrong {
		return a.distrust(w, w.caller, []string{w.callerPod}, found), true
	}
	var pods []string
	var last flaw
	for _, pod := range a.around.where.pods[w.callee] {
		if !a.around.stood(pod, r.Done) || !a.around.ready.during(pod, sentAt(r), r.Done) {
			continue
		}
		found, wrong := a.around.flawed.of(pod, r)
		if !wrong {
			return blame{}, false
		}
		pods, last = append(pods, pod), found
	}
	if len(pods) == 0 {
		return blame{}, false
	}
	return a.distrust(w, w.callee, pods, last), true
}

func (a *attribution) distrust(w way, whose string, pods []string, found flaw) blame {
	b := blame{kind: causeCertificate, services: w.services(), pods: pods,
		cause: handshake + w.words() + ": the certificate of " + whose + " was not to be trusted"}
	b.remedied(found.remedy)
	for _, pod := range firstOf(pods, maxSample) {
		b.near = append(b.near, "the certificate of "+pod+" "+short(found.why, 160))
	}
	return b
}
