package alb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const annotation = "alb.ingress.kubernetes.io/"

// annotations reads values with defaults and gathers what is wrong. A Service's
// own come before its Ingress's.
type annotations struct {
	service, ingress map[string]string
	problems         []error
}

func (a *annotations) text(name, fallback string) string {
	return cmp.Or(a.service[annotation+name], a.ingress[annotation+name], fallback)
}

func (a *annotations) fail(name string, err error) {
	a.problems = append(a.problems, fmt.Errorf("%s: %w", name, err))
}

// oneOf reads a word; "" where it is none of those that are served.
func (a *annotations) oneOf(name, fallback string, served ...string) string {
	word := a.text(name, fallback)
	if slices.Contains(served, word) {
		return word
	}
	a.fail(name, fmt.Errorf("%q is not served, only %s", word, strings.Join(served, " and ")))
	return ""
}

func (a *annotations) count(name string, fallback, most int) int {
	n, err := parseWhole(a.text(name, strconv.Itoa(fallback)), 1, most)
	if err != nil {
		a.fail(name, err)
		return fallback
	}
	return n
}

func (a *annotations) seconds(name string, fallback time.Duration) time.Duration {
	return time.Duration(a.count(name, int(fallback/time.Second), 300)) * time.Second
}

func parseWhole(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is not a number from %d to %d", text, least, most)
	}
	return n, nil
}

// parsePairs reads "key=value,key=value", as AWS's controller writes the
// attributes of load balancers and target groups.
func parsePairs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, fmt.Errorf("%q is not key=value", part)
		}
		pairs[key] = strings.TrimSpace(value)
	}
	return pairs, nil
}

// pairs reads an annotation of key=value pairs by a function for each key. A
// key without one is a problem: it would change what is rehearsed.
func (a *annotations) pairs(name string, read map[string]func(string) error) {
	pairs, err := parsePairs(a.text(name, ""))
	if err != nil {
		a.fail(name, err)
		return
	}
	for key, value := range pairs {
		err := errors.New("is not served")
		if f, ok := read[key]; ok {
			err = f(value)
		}
		if err != nil {
			a.fail(name, fmt.Errorf("%s: %w", key, err))
		}
	}
}

func secondsInto(d *time.Duration, least, most int) func(string) error {
	return func(text string) error {
		n, err := parseWhole(text, least, most)
		*d = time.Duration(n) * time.Second
		return err
	}
}

func wordInto(known map[string]bool, into *bool) func(string) error {
	return func(word string) error {
		value, ok := known[word]
		if !ok {
			return fmt.Errorf("%q is not served", word)
		}
		*into = value
		return nil
	}
}

func only(word string) func(string) error {
	return wordInto(map[string]bool{word: true}, new(bool))
}

// attributes reads those of a target group. Slow start may be shorter than
// AWS's 30 seconds: a rehearsal's day is.
func (a *annotations) attributes() attributes {
	out := attributes{DeregistrationDelay: 5 * time.Minute, CrossZone: true}
	a.pairs("target-group-attributes", map[string]func(string) error{
		"deregistration_delay.timeout_seconds": secondsInto(&out.DeregistrationDelay, 0, 3600),
		"slow_start.duration_seconds":          secondsInto(&out.SlowStart, 0, 900),
		"load_balancing.algorithm.type":        wordInto(map[string]bool{"round_robin": false, "least_outstanding_requests": true}, &out.LeastOutstanding),
		"load_balancing.cross_zone.enabled":    wordInto(map[string]bool{"true": true, "false": false, "use_load_balancer_configuration": true}, &out.CrossZone),
		"stickiness.enabled":                   only("false"),
	})
	if out.LeastOutstanding && out.SlowStart > 0 {
		a.fail("target-group-attributes", errors.New("slow start does not go with least_outstanding_requests"))
	}
	return out
}

// withoutEffect are attributes of a load balancer that change nothing here.
var withoutEffect = []string{
	"deletion_protection.enabled", "access_logs.s3.enabled", "access_logs.s3.bucket", "access_logs.s3.prefix",
	"connection_logs.s3.enabled", "connection_logs.s3.bucket", "connection_logs.s3.prefix",
	"routing.http2.enabled", "load_balancing.cross_zone.enabled", "zonal_shift.config.enabled",
}

// settings reads those of the load balancer; what is unsaid is as in into.
func (a *annotations) settings(into settings) settings {
	read := map[string]func(string) error{
		"idle_timeout.timeout_seconds":            secondsInto(&into.Idle, 1, 4000),
		"client_keep_alive.seconds":               secondsInto(&into.KeepAlive, 60, 604800),
		"routing.http.xff_header_processing.mode": only("append"),
		"routing.http.preserve_host_header.enabled": func(string) error {
			return nil // it is preserved either way
		},
	}
	for _, key := range withoutEffect {
		read[key] = func(string) error { return nil }
	}
	a.pairs("load-balancer-attributes", read)
	return into
}
