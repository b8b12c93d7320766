package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	ticketHeader = "X-Meshsim-Ticket" // between targeter and transport, never on the wire
	vegetaSeq    = "X-Vegeta-Seq"
	bodyLimit    = 16 << 10 // of an answer, for its error; the rest is read and dropped
	workers      = 64       // to begin with; vegeta adds more as it needs them
	// a kept connection is dropped before the load balancer does it (60 s), so
	// that no request meets a connection that is being closed
	clientIdle = 30 * time.Second
)

// httpSender sends by vegeta. Vegeta numbers its hits when they start, which
// is not the order in which they take their targets, and knows nothing of
// schedules. So a target carries the number of its request to the transport
// in a header; the transport sees vegeta's number too, and notes which is
// which, when the request really left, and the error itself, of which vegeta
// only keeps the text.
type httpSender struct {
	desk    *desk
	base    string // http://127.0.0.1:port
	seed    uint64
	timeout time.Duration
	next    http.RoundTripper

	mu     sync.Mutex
	hits   map[uint64]*hit // by vegeta's number
	broken error           // why no target could be made, which ends vegeta's attack
}

// hit is one request under way.
type hit struct {
	n       uint64 // of the desk
	orderID string
	sent    time.Duration
	err     error // with its type
}

func newHTTPSender(d *desk, addr string, seed uint64, timeout time.Duration) *httpSender {
	return &httpSender{
		desk: d, base: "http://" + addr, seed: seed, timeout: timeout, hits: map[uint64]*hit{},
		next: &http.Transport{
			DialContext:         dialLoopback,
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     clientIdle,
		},
	}
}

// run sends until the pacer stops and every answer is in.
func (s *httpSender) run(p *pacer) error {
	attacker := vegeta.NewAttacker(
		vegeta.Client(&http.Client{Transport: s, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		vegeta.Workers(workers),
		vegeta.MaxBody(bodyLimit),
	)
	for r := range attacker.Attack(s.target, p, 0, "") {
		s.settle(r)
	}
	if t, ok := s.next.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// target makes the next request; it is called once a hit.
func (s *httpSender) target(t *vegeta.Target) error {
	err := s.fill(t)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.broken = fmt.Errorf("make an HTTP request: %w", err)
	}
	return err
}

func (s *httpSender) fill(t *vegeta.Target) error {
	n, r, ok := s.desk.take()
	if !ok {
		return errors.New("a hit that was not scheduled")
	}
	c, err := callFor(r.Route, draw(s.seed, s.desk.stream, n))
	if err != nil {
		return err
	}
	t.Method, t.URL, t.Body = c.method, s.base+c.path, c.body
	t.Header = http.Header{ticketHeader: {strconv.FormatUint(n, 10) + " " + c.orderID}}
	t.Header.Set(traceHeader, trace(s.seed, s.desk.stream, n))
	if c.body != nil {
		t.Header.Set("Content-Type", "application/json")
	}
	return nil
}

// RoundTrip sends one request, within the timeout that holds until its body is read.
func (s *httpSender) RoundTrip(r *http.Request) (*http.Response, error) {
	h, err := s.begin(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	r = r.Clone(ctx)
	r.Header.Del(ticketHeader)
	r.Header.Del(vegetaSeq)
	if r.Body == nil || r.Body == http.NoBody {
		// Go's transport repeats a request without a body when a kept connection
		// breaks; a body that cannot be had again keeps it from hiding that
		r.Body = io.NopCloser(strings.NewReader(""))
	}
	r.GetBody = nil
	h.sent = s.desk.now()
	res, err := s.next.RoundTrip(r)
	if err != nil {
		cancel()
		h.err = err
		return nil, err
	}
	res.Body = &watchedBody{ReadCloser: res.Body, hit: h, cancel: cancel}
	return res, nil
}

// begin notes which of the desk's requests is which of vegeta's hits.
func (s *httpSender) begin(r *http.Request) (*hit, error) {
	number, orderID, _ := strings.Cut(r.Header.Get(ticketHeader), " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, errors.New("a request without a ticket")
	}
	seq, err := strconv.ParseUint(r.Header.Get(vegetaSeq), 10, 64)
	if err != nil {
		return nil, errors.New("a request without a number")
	}
	h := &hit{n: n, orderID: orderID}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[seq] = h
	return h, nil
}

// settle takes a finished hit back to the desk. It runs on one goroutine.
func (s *httpSender) settle(r *vegeta.Result) {
	s.mu.Lock()
	h, ok := s.hits[r.Seq]
	delete(s.hits, r.Seq)
	s.mu.Unlock()
	if !ok {
		return // never reached the transport; the desk's sweep accounts for it
	}
	done := s.desk.at(r.Timestamp.Add(r.Latency)) // when it ended, not when it is read here
	j := judgeHTTP(edgeService(s.desk.route(h.n)), int(r.Code), r.Headers, r.Body, h.err)
	s.desk.finish(h.n, h.sent, done, h.orderID, j)
}

// watchedBody keeps the error that cut an answer off, and ends its timeout.
type watchedBody struct {
	io.ReadCloser
	hit    *hit
	cancel context.CancelFunc
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.hit.err = err
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}
