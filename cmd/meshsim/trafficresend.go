package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
)

type resendFlags struct {
	runs, http, grpc string
	dry, asJSON      bool
}

func (a *app) newTrafficResend() *cobra.Command {
	var f resendFlags
	c := &cobra.Command{
		Use:   "resend RUN|latest INDEX|ORDER...",
		Short: "Send requests of a run once more",
		Long: `Makes requests of a run again, from its seed and their indices alone, sends them
to the run's load balancer on 127.0.0.1, and shows the answers and the ways that
they took through the shop. An index is a request's seq in requests.jsonl; an
order may be named by its id instead. An order keeps its id, by which the shop
knows it: it is the same order once more, never a second one. --dry-run only
says what would be sent.`,
		Example: "  meshsim traffic resend latest 4711 4712\n  meshsim traffic resend latest 3f1c9a52-7a31-4c55-9c52-0b3b2f1de001\n" +
			"  meshsim traffic resend latest 4711 --dry-run   # as a line of curl",
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, names []string) error {
			path, err := runPath(f.runs, names[0])
			if err != nil {
				return err
			}
			return a.resend(c.Context(), path, names[1:], f)
		},
	}
	c.Flags().StringVar(&f.runs, "runs", defaultRuns, "where run folders are")
	c.Flags().StringVar(&f.http, "http", "", "127.0.0.1:port of the load balancer's REST side (default: where it was in the run)")
	c.Flags().StringVar(&f.grpc, "grpc", "", "127.0.0.1:port of its gRPC side (default: where it was in the run)")
	c.Flags().BoolVar(&f.dry, "dry-run", false, "print the requests as lines of curl and send nothing")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print all of it as JSON")
	return c
}

// resent is a request, what became of it in the run, and what it is answered now.
type resent struct {
	Request *traffic.Prepared `json:"request"`
	Curl    string            `json:"curl"`
	Then    *results.Request  `json:"then,omitempty"` // nil when the run did not send it
	Now     *traffic.Answer   `json:"now,omitempty"`
}

func (a *app) resend(ctx context.Context, path string, wanted []string, f resendFlags) error {
	folder, err := results.Open(path)
	if err != nil {
		return err
	}
	run, err := folder.Run()
	if err != nil {
		return err
	}
	script, err := traffic.ScriptOf(run)
	if err != nil {
		return fault.NewInvalid(err, "")
	}
	then, err := findRequests(folder, wanted)
	if err != nil {
		return fault.NewInvalid(fmt.Errorf("the run's record is damaged: %w", err), "resend from a run that is whole")
	}
	var all []resent
	for i, name := range wanted {
		one, err := prepare(script, name, then[i])
		if err != nil {
			return err
		}
		addr, flag := cmp.Or(f.http, run.Traffic.HTTP), "--http"
		if one.Request.Proto == "grpc" {
			addr, flag = cmp.Or(f.grpc, run.Traffic.GRPC), "--grpc"
		}
		if addr == "" {
			return usageFault("the run's record does not say where its load balancer was: give " + flag)
		}
		one.Curl = one.Request.Curl(addr)
		if !f.dry {
			now, err := one.Request.Send(ctx, addr, max(run.Traffic.Timeout, time.Second))
			if err != nil {
				return err
			}
			one.Now = &now
		}
		all = append(all, one)
	}
	if f.asJSON {
		return a.printJSON(all)
	}
	for i, one := range all {
		if i > 0 {
			fmt.Fprintln(a.streams.Out)
		}
		a.tell(one)
	}
	return nil
}

func usageFault(text string) error { return fault.NewInvalid(errors.New(text), "") }

// findRequests looks requests up in the record, by index or order id; nil stands
// for those that are not there.
func findRequests(folder *results.Folder, wanted []string) ([]*results.Request, error) {
	found := make([]*results.Request, len(wanted))
	_, err := folder.EachRequest(func(r results.Request) error {
		index := strconv.FormatUint(r.Seq, 10)
		for i, name := range wanted {
			if name == index || r.OrderID != "" && name == r.OrderID {
				kept := r
				found[i] = &kept
			}
		}
		return nil
	})
	return found, err
}

func prepare(script *traffic.Script, name string, then *results.Request) (resent, error) {
	var index uint64
	route := ""
	if then != nil {
		index, route = then.Seq, then.Route
	} else {
		var err error
		if index, err = strconv.ParseUint(name, 10, 64); err != nil {
			return resent{}, fault.NewInvalid(fmt.Errorf("the run has no order %s", name), "name a request by its seq in requests.jsonl, or an order by its orderId")
		}
	}
	p, err := script.Prepare(index, route)
	if err != nil {
		return resent{}, fault.NewInvalid(err, "")
	}
	return resent{Request: p, Then: then}, nil
}

// tell writes one request for people.
func (a *app) tell(one resent) {
	w, p := a.streams.Out, one.Request
	fmt.Fprintf(w, "request %d: %s, %s\n", p.Seq, p.Route, strings.TrimSpace(p.Method+" "+p.Path))
	if p.Body != "" {
		fmt.Fprintf(w, "  body   %s\n", p.Body)
	}
	if p.OrderID != "" {
		fmt.Fprintf(w, "  order  %s: the id it had in the run, so it is the same order and not a second one\n", p.OrderID)
	}
	switch then := one.Then; {
	case then == nil:
		fmt.Fprintln(w, "  then   not in the run's record")
	case then.Outcome == results.Undispatched:
		fmt.Fprintf(w, "  then   never sent: %s\n", then.Error)
	default:
		fmt.Fprintf(w, "  then   at %s in %s: %s after %s\n", time.Duration(then.Scheduled).Round(time.Millisecond), cmp.Or(then.Phase, "no phase"),
			outcome(then.Outcome, then.Status, then.Class, then.Hop, then.Pod, then.Error), time.Duration(then.Latency()).Round(time.Microsecond))
	}
	if one.Now == nil {
		fmt.Fprintf(w, "  again  %s\n", one.Curl)
		return
	}
	now := one.Now
	fmt.Fprintf(w, "  now    %s after %s\n", outcome(now.Outcome, now.Status, now.Class, now.Hop, now.Pod, now.Error), now.Took.Round(time.Microsecond))
	for _, h := range now.Hops {
		fmt.Fprintf(w, "  way    %s%s\n", strings.Repeat("  ", h.Depth), hopWords(h))
	}
	if now.Body != "" {
		fmt.Fprintf(w, "  said   %s\n", strings.TrimSpace(now.Body))
	}
}

// outcome says what became of a request.
func outcome(outcome string, status int, class, hop, pod, text string) string {
	words := []string{outcome}
	for _, word := range []string{class, hop} {
		if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	if status != 0 {
		words = append(words, "status "+strconv.Itoa(status))
	}
	if pod != "" {
		words = append(words, "by "+pod)
	}
	said := strings.Join(words, ", ")
	if text != "" {
		said += " (" + text + ")"
	}
	return said
}

// hopWords tells one stop of the way.
func hopWords(h hops.Hop) string {
	said := h.Service
	if h.Answered() {
		said += " by " + h.Pod
		if h.Node != "" {
			said += " on " + h.Node
		}
		if h.Version != "" {
			said += ", " + h.Version
		}
	}
	said += ": " + h.Took.String()
	if h.Answered() && h.Depth > 0 {
		said += ", of which " + h.Own.String() + " its own"
	}
	if h.Code != 0 {
		said += ", " + h.Code.String()
	}
	if h.Attempts > 1 {
		said += fmt.Sprintf(", %d attempts", h.Attempts)
	}
	return said
}
