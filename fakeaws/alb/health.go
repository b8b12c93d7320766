package alb

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// checkSpec is how a group's targets are checked.
type checkSpec struct {
	Path        string // with a query, if any
	GRPC        bool   // a gRPC call instead of a GET
	TLS         bool
	Success     codes
	Interval    time.Duration
	Timeout     time.Duration
	HealthyAt   int // successes in a row after a failure
	UnhealthyAt int // failures in a row
}

// mismatchError says that a target answered, but not as the group wants.
type mismatchError struct {
	got  int
	want codes
}

func (e *mismatchError) Error() string { return fmt.Sprintf("answered %d, want %s", e.got, e.want) }

// checker does one target's health checks.
type checker struct {
	spec   checkSpec
	client *http.Client
	url    string
}

func newChecker(spec checkSpec, e endpoint) checker {
	// as AWS's: a new connection for every check
	transport := &http.Transport{
		DisableKeepAlives: true, Protocols: protocols(spec.GRPC, spec.TLS),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as AWS's: it takes every certificate
	}
	scheme, port := "http", e.Port
	if spec.TLS {
		scheme = "https"
	}
	if e.CheckPort != 0 {
		port = e.CheckPort
	}
	return checker{
		spec: spec,
		client: &http.Client{
			Transport:     transport,
			Timeout:       spec.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url: scheme + "://" + net.JoinHostPort(e.IP, strconv.Itoa(int(port))) + spec.Path,
	}
}

// protocols towards a target: HTTP/1.1, or HTTP/2 with or without TLS.
func protocols(http2, tls bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2 && tls)
	p.SetUnencryptedHTTP2(http2 && !tls)
	return p
}

// check returns nil when the target answered as the group wants.
func (c checker) check(ctx context.Context) error {
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
		return &mismatchError{code, c.spec.Success}
	}
	return nil
}

func (c checker) request(ctx context.Context) (*http.Request, error) {
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

// startChecks begins t's health checks after a while; the caller holds mu.
func (g *group) startChecks(ctx context.Context, t *target, after time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	t.stop = cancel
	spec := g.spec.Load().Check
	check := g.checker(spec, t.endpoint)
	g.checks.Go(func() {
		defer cancel()
		if pause.For(ctx, after) == nil {
			g.announce(t)
			g.watch(ctx, t, spec, check)
		}
	})
}

// announce says that a new target is registered and not checked yet.
func (g *group) announce(t *target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.state == initial {
		t.why = reasonChecking
		g.changed()
	}
}

// watch checks a target until ctx ends. A check begins an interval after the
// one before it began, however long that took.
func (g *group) watch(ctx context.Context, t *target, spec checkSpec, check func(context.Context) error) {
	var count tally
	// after the first check, targets are spread over the interval: all at once
	// they would be a burst that requests feel
	wait := time.Duration(rand.Int64N(int64(spec.Interval)))
	for {
		began := g.now()
		err := check(ctx)
		if ctx.Err() != nil {
			return
		}
		g.note(t, &count, err)
		if pause.For(ctx, wait-g.now().Sub(began)) != nil {
			return
		}
		wait = spec.Interval
	}
}
