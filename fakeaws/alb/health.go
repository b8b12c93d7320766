package alb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// checkSpec is how a group's targets are checked.
type checkSpec struct {
	Path        string
	Port        int32 // on the node
	GRPC        bool  // a gRPC call instead of a GET
	Success     codes
	Interval    time.Duration
	Timeout     time.Duration
	HealthyAt   int // successes in a row after a failure
	UnhealthyAt int // failures in a row
}

// codes is a set of codes such as "200,300-302"; the text is kept so that
// specs compare by ==.
type codes string

// parseCodes checks the form of a set of codes.
func parseCodes(s string) (codes, error) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			return "", fmt.Errorf("%q is not a code or a range of codes", part)
		}
		if high, err := strconv.ParseUint(to, 10, 16); isRange && (err != nil || high < low) {
			return "", fmt.Errorf("%q is not a range of codes", part)
		}
	}
	return codes(s), nil
}

// has tells whether code is in the set.
func (c codes) has(code int) bool {
	for part := range strings.SplitSeq(string(c), ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.Atoi(from)
		high := low
		if isRange {
			high, _ = strconv.Atoi(to) // parseCodes has seen it
		}
		if err == nil && code >= low && code <= high {
			return true
		}
	}
	return false
}

// checker does one health check.
type checker struct {
	spec   checkSpec
	client *http.Client
	url    string
}

func newChecker(spec checkSpec, ip string) *checker {
	// a new connection each time, so that a check asks whoever is behind the
	// NodePort now and not the pod an old connection is tied to
	transport := &http.Transport{DisableKeepAlives: true, Protocols: protocols(spec.GRPC)}
	return &checker{
		spec: spec,
		client: &http.Client{
			Transport:     transport,
			Timeout:       spec.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url: "http://" + net.JoinHostPort(ip, strconv.Itoa(int(spec.Port))) + spec.Path,
	}
}

func protocols(h2c bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!h2c)
	p.SetUnencryptedHTTP2(h2c)
	return p
}

// check returns nil when the target answered as the group wants.
func (c *checker) check(ctx context.Context) error {
	req, err := c.request(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)); err != nil {
		return err
	}
	code := res.StatusCode
	if c.spec.GRPC {
		if code, err = grpcStatus(res); err != nil {
			return err
		}
	}
	if !c.spec.Success.has(code) {
		return fmt.Errorf("answered %d, want %s", code, c.spec.Success)
	}
	return nil
}

func (c *checker) request(ctx context.Context) (*http.Request, error) {
	if !c.spec.GRPC {
		return http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	}
	empty := make([]byte, 5) // one uncompressed message of no bytes
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(empty))
	if err == nil {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	return req, err
}

func grpcStatus(res *http.Response) (int, error) {
	text := res.Trailer.Get("Grpc-Status")
	if text == "" {
		text = res.Header.Get("Grpc-Status")
	}
	code, err := strconv.Atoi(text)
	if err != nil {
		return 0, errors.New("answered without a grpc-status")
	}
	return code, nil
}

// tally counts successes and failures in a row and says when that changes a
// target's health.
type tally struct {
	good, bad int
}

// note takes one result and returns the health that follows from now.
func (t *tally) note(ok bool, now health, spec checkSpec) health {
	if ok {
		t.good, t.bad = t.good+1, 0
		// a target that was never healthy needs one success only
		if now == initial || t.good >= spec.HealthyAt {
			return healthy
		}
		return now
	}
	t.good, t.bad = 0, t.bad+1
	if t.bad >= spec.UnhealthyAt {
		return unhealthy
	}
	return now
}

// watch checks a target until ctx ends, and tells changed of each change.
func (t *target) watch(ctx context.Context, spec checkSpec, changed func(*target, health, error)) {
	c := newChecker(spec, t.node.IP)
	var count tally
	// after the first check, targets are spread over the interval: all at once
	// they would be a burst that requests feel
	for next := time.Duration(rand.Int64N(int64(spec.Interval))); ; next = spec.Interval {
		err := c.check(ctx)
		if ctx.Err() != nil {
			return
		}
		was := t.health()
		is := count.note(err == nil, was, spec)
		if err != nil {
			t.reason.Store(err.Error())
		} else {
			t.reason.Store("")
		}
		if is != was {
			t.state.Store(int32(is))
			changed(t, is, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}
