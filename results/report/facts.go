package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// fact is one line about what ran and where.
type fact struct{ Name, Text string }

// factList gathers facts.
type factList []fact

func (l *factList) add(name, format string, args ...any) {
	*l = append(*l, fact{name, fmt.Sprintf(format, args...)})
}

// facts are what a reader needs to judge how far the run can be trusted, and to
// run it again.
func (d Data) facts() []fact {
	r := d.Run
	var all factList
	all.add("run", "%s, begun %s", r.ID, r.StartedAt.UTC().Format("2006-01-02 15:04:05 MST"))
	if len(r.StandIns) > 0 {
		all.add("stand-ins", "%s", strings.Join(r.StandIns, "; "))
	} else {
		all.add("stand-ins", "none")
	}
	all.add("cluster", "%s, Kubernetes %s", orUnknown(r.Topology), orUnknown(r.KubernetesVersion))
	for _, text := range given(r) {
		all.add("given", "%s", text)
	}
	d.evidence(&all)
	load(&all, r)
	d.host(&all)
	for _, g := range r.Agents {
		all.add("agents "+g.Name, "%s", agentsText(g))
	}
	if len(r.ClockOffsets) > 0 {
		all.add("clocks", "%s", offsets(r.ClockOffsets))
	}
	all.add("again", "%s (seed %d)", again(r), r.Seed)
	if r.Tool != "" {
		all.add("meshsim", "%s", r.Tool)
	}
	return all
}

// again is the command that rehearses the same.
func again(r results.Run) string {
	if r.Traffic.Day > 0 {
		return fmt.Sprintf("meshsim run %s --day %s", r.Scenario, r.Traffic.Day)
	}
	return "meshsim run " + r.Scenario
}

// evidence adds what was looked at beside the traffic.
func (d Data) evidence(all *factList) {
	for _, c := range d.Checks {
		all.add("linkerd check", "%s", checkText(c))
	}
	if d.Leaves != nil {
		all.add("proxy certificates", "%s", leavesText(*d.Leaves))
	}
	if d.Ledger != nil {
		all.add("orders", "%s", ledgerText(*d.Ledger))
	}
	if d.Open != "" {
		all.add("open by design", "%s", d.Open)
	}
	if d.Rotation != nil {
		all.add("rotation", "%s", rotationText(*d.Rotation))
	}
	if d.Rotated != nil {
		all.add("rotated", "%s", rotatedText(*d.Rotated))
	}
	if d.Audit != nil {
		all.add("Vault", "%s", auditText(*d.Audit))
	}
	if text := webhooksText(d.Webhooks); text != "" {
		all.add("webhooks", "%s", text)
	}
}

// load adds what was sent, and how pods are stopped beneath it.
func load(all *factList, r results.Run) {
	switch t := r.Traffic; {
	case t.Shape != "":
		all.add("traffic", "%s: %.1f a second on average at scale 1, %.0f times the real rate", t.Shape, t.MeanRate, t.Faster)
	case t.CompressTo > 0:
		all.add("traffic", "a launch day of %s requests (an ordinary one has %s) in %s: %.1f a second on average at scale 1, %.0f times the real rate",
			count(int64(t.LaunchPerDay)), count(int64(t.RealPerDay)), t.CompressTo, float64(t.LaunchPerDay)/t.CompressTo.Seconds(), (24*time.Hour).Seconds()/t.CompressTo.Seconds())
	}
	drain := "without drain"
	if r.Shop.Drain {
		drain = fmt.Sprintf("after %d s of drain", r.Shop.DrainSeconds)
	}
	all.add("pods stop", "%s, the proxy waits %d s, the grace period is %d s", drain, r.Shop.ProxyWaitSeconds, r.Shop.TerminationGracePeriodSeconds)
	if r.Shop.MinReadySeconds > 0 {
		all.add("pods start", "an old one goes when a new one has been ready for %d s", r.Shop.MinReadySeconds)
	}
}

// host adds the machine, and what its sender can do.
func (d Data) host(all *factList) {
	r := d.Run
	all.add("host", "%s %s, %d CPUs, %s", orUnknown(r.Host.OS), r.Host.Kernel, r.Host.CPUs, bytesText(r.Host.MemoryBytes))
	if len(d.Host) > 0 {
		all.add("CPUs busy", "%s", byPhase(d.Host, func(l results.HostLoad) *float64 { return &l.Busy }))
	}
	if waited := byPhase(d.Host, func(l results.HostLoad) *float64 { return l.Waiting }); waited != "" {
		all.add("waited for a CPU", "%s of the time", waited)
	}
	if r.Fit.CPU > 0 && r.Fit.CPU < 1 || r.Fit.Memory > 0 && r.Fit.Memory < 1 {
		all.add("fitted", "pod requests × %.3g for CPU and × %.3g for memory", r.Fit.CPU, r.Fit.Memory)
	}
	for _, note := range r.Fit.Notes {
		all.add("fitted", "%s", note)
	}
	c := r.Calibration
	if c == nil {
		return
	}
	all.add("sender alone", "against a server that does nothing: p50 %s ms, p99 %s ms, max %s ms over %s requests",
		millis(ms(c.P50)), millis(ms(c.P99)), millis(ms(c.Max)), count(int64(c.Requests)))
	if c.Held > 0 {
		all.add("sender's limit", "%s requests a second left on time, %.0f are wanted at most", count(int64(c.Held)), c.Wanted)
	}
}

// given names what came in the place of the bundle's own.
func given(r results.Run) []string {
	var all []string
	for _, i := range r.Images {
		if i.Source != "" {
			all = append(all, fmt.Sprintf("image %s from %s, %s", i.Name, i.Source, i.Digest))
		}
	}
	for _, c := range r.Charts {
		if c.Source != "" {
			all = append(all, fmt.Sprintf("chart %s %s from %s, %s", c.Name, c.Version, c.Source, c.Digest))
		}
	}
	return all
}

// maxFindings is how many findings of one check are named.
const maxFindings = 5

func checkText(c results.LinkerdCheck) string {
	what := c.When
	if c.DataPlane {
		what += ", the shop's proxies too"
	}
	var named []string
	for _, f := range c.Findings {
		named = append(named, f.Result+": "+f.Check)
	}
	text := fmt.Sprintf("%s: %d passed, %d did not", what, c.Passed, len(c.Findings))
	if more := len(named) - maxFindings; more > 0 {
		named = append(named[:maxFindings], fmt.Sprintf("%d more", more))
	}
	if len(named) > 0 {
		text += " (" + strings.Join(named, "; ") + ")"
	}
	return text
}

// byPhase writes a share of each phase that has one.
func byPhase(loads []PhaseLoad, of func(results.HostLoad) *float64) string {
	var parts []string
	for _, l := range loads {
		if share := of(l.HostLoad); share != nil {
			parts = append(parts, fmt.Sprintf("%s %.0f %%", l.Phase, *share*100))
		}
	}
	return strings.Join(parts, ", ")
}

func leavesText(l results.Leaves) string {
	var parts []string
	if !l.Earliest.IsZero() {
		parts = append(parts, "the first ends "+l.Earliest.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if len(l.Expired) > 0 {
		parts = append(parts, "ended already: "+strings.Join(l.Expired, ", "))
	}
	if len(l.Silent) > 0 {
		parts = append(parts, "no figure from "+strings.Join(l.Silent, ", "))
	}
	text := fmt.Sprintf("of %d proxies", l.Proxies)
	if len(parts) > 0 {
		text += " " + strings.Join(parts, "; ")
	}
	return text
}

// rotationText names the oldest secret, and each certificate that Vault signed.
func rotationText(v results.VaultRotation) string {
	var parts []string
	if len(v.Secrets) > 0 {
		oldest := slices.MaxFunc(v.Secrets, func(a, b results.SecretAge) int { return cmp.Compare(a.Age, b.Age) })
		parts = append(parts, fmt.Sprintf("of %d secrets in Vault the oldest is %s", len(v.Secrets), ageText(oldest)))
	}
	for _, c := range v.Certificates {
		what := "certificate "
		if c.Anchor {
			what = "trust anchor "
		}
		parts = append(parts, what+ageText(c))
	}
	return strings.Join(parts, "; ")
}

// rotatedText says what was renewed, how long that took, and who uses it.
func rotatedText(r results.SecretsRotated) string {
	text := fmt.Sprintf("%d secrets in Vault in %d s by job %s", len(r.Secrets), r.JobMs/1000, r.Job)
	var logins []string
	for _, l := range r.Logins {
		logins = append(logins, l.Service+" as "+l.Login)
	}
	if len(logins) > 0 {
		text += "; connected to the database then: " + strings.Join(logins, ", ")
	}
	return text
}

func ageText(s results.SecretAge) string {
	text := fmt.Sprintf("%s, since %s", s.Path, s.Since.UTC().Format("2006-01-02 15:04:05 MST"))
	switch {
	case s.Version > 0:
		text += fmt.Sprintf(" (version %d)", s.Version)
	case s.Every > 0:
		text += fmt.Sprintf(" (replaced every %.4g days)", s.Every.Hours()/24)
	}
	return text
}

// auditText says what Vault was asked for: in vain, and most often.
func auditText(a results.VaultAudit) string {
	text := fmt.Sprintf("its audit log tells of %s requests: %s denied, %s failed", count(a.Requests), count(a.Denied), count(a.Failed))
	var most []string
	for _, u := range a.Uses[:min(len(a.Uses), maxFindings)] {
		most = append(most, fmt.Sprintf("%s × %s %s", count(u.Count), u.Operation, u.Path))
	}
	if len(most) > 0 {
		text += "; most often " + strings.Join(most, ", ")
	}
	switch {
	case a.Clear > 0:
		text += fmt.Sprintf("; %s entries held what should have been hashed", count(a.Clear))
	case a.Requests > 0:
		text += "; all tokens and secrets in it were hashed"
	}
	if len(a.Missed) > 0 {
		text += "; not all of it was read: " + strings.Join(a.Missed, ", ")
	}
	return text
}

// webhooksText adds up the calls of each webhook over the phases.
func webhooksText(phases []results.Webhooks) string {
	total := map[string]results.WebhookCalls{}
	for _, p := range phases {
		for _, c := range p.Calls {
			sum := total[c.Name]
			sum.Calls, sum.Rejected = sum.Calls+c.Calls, sum.Rejected+c.Rejected
			sum.FailedOpen, sum.FailedClosed = sum.FailedOpen+c.FailedOpen, sum.FailedClosed+c.FailedClosed
			total[c.Name] = sum
		}
	}
	var all []string
	for name, c := range total {
		text := fmt.Sprintf("%s × %s", count(c.Calls), name)
		for _, more := range []struct {
			n     int64
			words string
		}{{c.Rejected, "refused"}, {c.FailedClosed, "failed and were refused"}, {c.FailedOpen, "failed and were let in"}} {
			if more.n > 0 {
				text += fmt.Sprintf(", %s %s", count(more.n), more.words)
			}
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func offsets(byNode map[string]int64) string {
	parts := make([]string, 0, len(byNode))
	for node, ns := range byNode {
		parts = append(parts, fmt.Sprintf("%s %+.2f ms", node, float64(ns)/1e6))
	}
	slices.Sort(parts)
	return "offsets " + strings.Join(parts, ", ")
}

// method is how the figures came about, a sentence each.
var method = []string{
	"Requests are sent open-loop at instants drawn beforehand from the seed; whether an answer has come does not matter. Latency runs from the scheduled instant, so a stall of the sender counts against the run; the figure timed from sending stands beside it.",
	"A failure is a 5xx, a 403, a transport error or a timeout, counted at the client. A business answer (sold out, payment declined, not found) is none. Zero budgets count requests, not percentages.",
	"Availability and other shares are judged by exact binomial bounds (Clopper-Pearson), one-sided at 95 %. Without a failure, 3 divided by the share that may fail is enough: 6,000 requests for 99.95 %. A pass is what was shown, a fail what was seen beyond doubt; all else is inconclusive.",
	"Percentiles come from HdrHistograms (1 µs to 60 s, three digits) of all requests, failed ones included; histograms are merged, percentiles never averaged. A percentile passes when its whole 95 % interval is within the budget and fails when all of it is outside; where neighbouring requests are alike, they count for fewer.",
	"Added latency is the difference of a percentile between a meshed and a plain twin, called in turns at the same time, with a bootstrap interval over blocks of whole triples. The difference of plain against plain is the noise; where it reaches the budget there is no verdict.",
	"Latency is inconclusive where more requests left late than the scenario allows. A run that was cut off or whose record has lost lines never passes.",
	"A failure's cause is read from its hop and from what happened in the cluster around it. It says what was near, not what would have been otherwise; unknown is allowed and counted.",
}
