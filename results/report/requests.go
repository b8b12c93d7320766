package report

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// requestView is one request of a cause, with its way.
type requestView struct {
	results.CauseRequest
	At    string
	Where string // hop and pod in words
	Hops  []hopView
}

// hopView is one stop of its way.
type hopView struct {
	Depth          int
	Service, Where string
	Took, Own      string
	Failed         string // the code of the call, "" when it went well
	From, Wide     string // in percent of the request, for the bar
	Untold         int
	Attempts       int
	HasAnswer      bool
}

func requestsOf(c results.Cause) []requestView {
	all := make([]requestView, 0, len(c.Requests))
	for _, r := range c.Requests {
		v := requestView{CauseRequest: r, At: instantText(r.ScheduledMs), Where: r.Hop, Hops: hopsOf(r)}
		if r.Pod != "" {
			v.Where += " (" + r.Pod + ")"
		}
		all = append(all, v)
	}
	return all
}

// instantText writes an instant of the run as m:ss.mmm.
func instantText(ms float64) string {
	whole := int64(ms)
	return fmt.Sprintf("%s.%03d", clock(whole), whole%1000)
}

// hopsOf reads a request's way; nothing where the shop did not tell it.
func hopsOf(r results.CauseRequest) []hopView {
	if r.Way == "" {
		return nil
	}
	edge := ""
	for _, route := range scenarios.Routes() {
		if route.Name == r.Route {
			edge = route.Service
		}
	}
	way, err := hops.Parse(edge, r.Way)
	if err != nil {
		return nil
	}
	whole := float64(max(way[0].Own, 1))
	begins := make([]time.Duration, 16) // of the last hop at each depth
	all := make([]hopView, 0, len(way))
	for _, h := range way {
		start := time.Duration(0)
		if h.Depth > 0 {
			start = begins[h.Depth-1] + h.Start
		}
		begins[h.Depth] = start
		v := hopView{
			Depth: h.Depth, Service: h.Service, Took: millis(ms(h.Took)), Own: millis(ms(h.Own)), Untold: h.Untold, Attempts: h.Attempts,
			From: num(100 * min(float64(start)/whole, 1)), Wide: num(100 * min(max(float64(h.Took)/whole, 0.005), 1)), HasAnswer: h.Answered(),
		}
		if h.Answered() {
			v.Where = h.Pod + " on " + h.Node
			if h.Version != "" {
				v.Where += ", " + h.Version
			}
		}
		if h.Code != codes.OK {
			v.Failed = h.Code.String()
		}
		all = append(all, v)
	}
	return all
}
