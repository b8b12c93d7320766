package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// chartMark is what happened in the cluster within one bucket, of one kind.
type chartMark struct {
	X, Width, Y, Title string
	From, To           int64 // ms
	Grave              bool
}

// markKinds are the rows of the cluster's events, the gravest first.
var markKinds = []struct {
	name   string
	grave  bool
	kind   string
	states []string // none: any
}{
	{"deaths", true, results.Pod, []string{results.StateOOMKilled, results.StateRestarted}},
	{"nodes", true, results.Node, nil},
	{"refusals", true, results.Vault, []string{results.StateDenied, results.StateFailed}},
	{"webhooks", true, results.Webhook, []string{results.StateFailedOpen, results.StateFailedClosed, results.StateRejected}},
	{"not ready", false, results.Pod, []string{results.StateNotReady}},
	{"stops", false, results.Pod, []string{results.StateTerminating}},
	{"starts", false, results.Pod, []string{results.StateReady}},
	{"Vault", false, results.Vault, []string{results.StateServed}},
	{"warnings", false, results.Warning, nil},
}

// maxMarks bounds what is drawn of one kind.
const maxMarks = 400

// marks draws a row for each kind of event that there was, and returns how many.
func (c *chart) marks(events []results.Event, bucketMs, end int64, x func(int64) float64) int {
	rows := 0
	for _, k := range markKinds {
		byBucket := map[int64][]string{}
		for _, e := range events {
			if e.Kind != k.kind || len(k.states) > 0 && !slices.Contains(k.states, e.Fields[results.FieldState]) {
				continue
			}
			i := e.At / int64(time.Millisecond) / bucketMs
			byBucket[i] = append(byBucket[i], markWords(e))
		}
		if len(byBucket) == 0 {
			continue
		}
		top := float64(marksTop + rows*markHeight)
		c.MarkRows = append(c.MarkRows, chartTick{At: num(top + 11), Label: k.name})
		for _, i := range ascendingKeys(byBucket)[:min(len(byBucket), maxMarks)] {
			what := byBucket[i]
			from, to := i*bucketMs, (i+1)*bucketMs
			title := fmt.Sprintf("%s: %s", clock(from), strings.Join(what[:min(len(what), 6)], "; "))
			if more := len(what) - 6; more > 0 {
				title += fmt.Sprintf("; and %d more", more)
			}
			c.Marks = append(c.Marks, chartMark{
				X: num(x(from)), Width: num(max(x(to)-x(from), 2.5)), Y: num(top + 2), Title: title, From: from, To: min(to, end), Grave: k.grave,
			})
		}
		rows++
	}
	return rows
}

func markWords(e results.Event) string {
	if e.Kind == results.Vault {
		return vaultWords(e)
	}
	text := e.Name
	if state := e.Fields[results.FieldState]; state != "" {
		text += " " + state
	}
	if e.Detail != "" {
		text += ": " + shorten(results.OneLine(e.Detail), 90)
	}
	return text
}

// vaultWords says who asked Vault for what, and why in vain.
func vaultWords(e results.Event) string {
	text := "Vault " + e.Name
	if who := cmp.Or(e.Fields[results.FieldRole], e.Fields[results.FieldClient]); who != "" {
		text += " by " + who
	}
	if e.Detail != "" {
		text += ": " + shorten(results.OneLine(e.Detail), 90)
	}
	return text
}

func ascendingKeys[V any](m map[int64]V) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
