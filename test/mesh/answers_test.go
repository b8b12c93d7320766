//go:build conformance

package mesh

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
	"meshsim.dev/meshsim/test/mesh/scrape"
)

// calls are what a client says became of its calls: its word is the truth.
type calls []call.Result

func (c calls) failed() calls {
	return slices.DeleteFunc(slices.Clone(c), func(r call.Result) bool { return r.OK })
}

// String tells how many were answered, and how the others ended.
func (c calls) String() string {
	bad := c.failed()
	text := fmt.Sprintf("%d of %d answered", len(c)-len(bad), len(c))
	reasons := map[string]int{}
	for _, r := range bad {
		reasons[strings.TrimSpace(r.Error)]++
	}
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		text += fmt.Sprintf("; %d× %s", reasons[why], why)
	}
	return text
}

// servers counts the answers of each server.
func (c calls) servers() map[string]int {
	n := map[string]int{}
	for _, r := range c {
		if r.Server != "" {
			n[r.Server]++
		}
	}
	return n
}

// An outcome is what every call of a row is to end with.
type outcome struct {
	name string
	is   func(call.Result) bool
}

var (
	answered = outcome{"answered", func(r call.Result) bool { return r.OK }}
	failing  = outcome{"failed", func(r call.Result) bool { return !r.OK }}
	// denied is how a policy refuses: 403, or grpc-status 7.
	denied = outcome{"denied (403 or grpc-status 7)", func(r call.Result) bool {
		return r.Status == http.StatusForbidden || r.Code == "PermissionDenied"
	}}
	notFound = outcome{"answered 404", func(r call.Result) bool { return r.Status == http.StatusNotFound }}
)

// all says which call ended otherwise.
func (c calls) all(want outcome) error {
	if len(c) == 0 {
		return errNothingSeen
	}
	for _, r := range c {
		if !want.is(r) {
			return fmt.Errorf("call %d was not %s: status %d %s %s", r.N, want.name, r.Status, r.Code, r.Error)
		}
	}
	return nil
}

// expect makes calls and wants all of them to end so. It tries again for a
// while: what a policy or an endpoint changes takes a moment to arrive.
func (l *lab) expect(ctx context.Context, from string, o call.Options, want outcome) (calls, error) {
	var last calls
	err := eventually(ctx, settleWithin, func(ctx context.Context) error {
		var err error
		if last, err = l.call(ctx, from, o); err != nil {
			return err
		}
		return last.all(want)
	})
	if err != nil {
		err = fmt.Errorf("%s → %s: %w", from, o.Target, err)
	}
	return last, err
}

// settleWithin is how long a change of policy or endpoints may take.
const settleWithin = 20 * time.Second

// edge is one line of a matrix: who calls what, and how it is to end.
type edge struct {
	from   string
	target string
	want   outcome
}

// matrix expects each edge and tells them all.
func (l *lab) matrix(ctx context.Context, edges ...edge) (string, error) {
	var seen []string
	for _, e := range edges {
		got, err := l.expect(ctx, e.from, call.Options{Target: e.target, Count: 2, Fresh: true}, e.want)
		if err != nil {
			return strings.Join(append(seen, got.String()), "; "), err
		}
		seen = append(seen, fmt.Sprintf("%s → %s %s", e.from, e.target, e.want.name))
	}
	return strings.Join(seen, "; "), nil
}

// scrape reads the metrics of a pod's proxy by a forwarded port, which arrives
// on loopback, so that no policy is in the way.
func (l *lab) scrape(ctx context.Context, pod string) (scrape.Samples, error) {
	text, err := l.admin(ctx, pod, "/metrics")
	if err != nil {
		return nil, err
	}
	return scrape.Parse(text)
}

// maxScrape is more than any proxy prints.
const maxScrape = 8 << 20

// admin gets a path of a proxy's admin server.
func (l *lab) admin(ctx context.Context, pod, path string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.kube.Dial(ctx, l.ns, pod, 4191)
	}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 15 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:4191"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get %s of %s's proxy: %w", path, pod, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxScrape))
	if err != nil {
		return nil, fmt.Errorf("get %s of %s's proxy: %w", path, pod, err)
	}
	if res.StatusCode != http.StatusOK {
		return text, fmt.Errorf("get %s of %s's proxy: %s", path, pod, res.Status)
	}
	return text, nil
}

// scrapeApp scrapes the newest pod of a workload.
func (l *lab) scrapeApp(ctx context.Context, app string) (scrape.Samples, error) {
	pod, err := l.pod(ctx, app)
	if err != nil {
		return nil, err
	}
	return l.scrape(ctx, pod.Name)
}

// metric waits until a metric with these labels counts at least so much.
func (l *lab) metric(ctx context.Context, app string, atLeast float64, name string, labels ...string) (string, error) {
	var got scrape.Samples
	err := eventually(ctx, settleWithin, func(ctx context.Context) error {
		all, err := l.scrapeApp(ctx, app)
		if err != nil {
			return err
		}
		if got = all.Match(name, labels...); len(got) == 0 {
			return fmt.Errorf("%s has no %s{%s}", app, name, strings.Join(labels, ","))
		}
		if sum := got.Sum(); sum < atLeast {
			return fmt.Errorf("%s{%s} of %s is %g, not %g", name, strings.Join(labels, ","), app, sum, atLeast)
		}
		return nil
	})
	return fmt.Sprintf("%s{%s} = %g", name, strings.Join(labels, ","), got.Sum()), err
}
