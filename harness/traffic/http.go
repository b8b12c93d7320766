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

	"meshsim.dev/meshsim/scenarios"
)

const (
	ticketHeader = "X-Meshsim-Ticket" // between targeter and transport, never on the wire
	vegetaSeq    = "X-Vegeta-Seq"
	bodyLimit    = 16 << 10 // of an answer, for its error; the rest is read and dropped
	workers      = 16       // to begin with; vegeta adds more as it needs them
	contentType  = "Content-Type"
	jsonType     = "application/json"
)

// httpSender sends by vegeta. Vegeta numbers its hits when they start, which
// is not the order in which they take their targets, and knows nothing of
// schedules. So a target carries the number of its request to the transport
// in a header; the transport sees vegeta's number too, and notes which is
// which, when the request really left, and the error itself, of which vegeta
// only keeps the text.
type httpSender struct {
	desk    *desk
	script  *Script
	base    string // http://127.0.0.1:port
	timeout time.Duration
	wires   *wires
	plain   []string // the encoding of a body that is empty

	mu     sync.Mutex
	hits   map[uint64]*hit // by vegeta's number
	broken error           // why no target could be made, which ends vegeta's attack
}

// hit is one request under way, and the body of its answer: it keeps the error that
// cut that off, and ends the request's timeout and its use of a connection with it.
type hit struct {
	io.ReadCloser // the answer's body

	n       uint64 // of the desk
	orderID string
	sent    time.Duration
	err     error  // with its type
	cancel  func() // the timeout
	done    func() // gives the connection back
}

func newHTTPSender(d *desk, script *Script, addr string, t scenarios.Traffic, hosts ...string) *httpSender {
	return &httpSender{
		desk: d, script: script, base: "http://" + addr, timeout: t.Timeout, wires: newWires(t.Sender, hosts...), plain: []string{"identity"},
		hits: map[uint64]*hit{},
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
	s.wires.close()
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
	c, err := s.script.call(r.Seq, r.Route)
	if err != nil {
		return err
	}
	t.Method, t.URL, t.Body = c.method, s.base+c.path, c.body
	t.Header = http.Header{ticketHeader: {strconv.FormatUint(n, 10) + " " + c.orderID}}
	t.Header.Set(traceHeader, trace(s.script.seed, r.Seq))
	if c.body != nil {
		t.Header.Set(contentType, jsonType)
	}
	return nil
}

// RoundTrip sends one request, within the timeout that holds until its body is read.
func (s *httpSender) RoundTrip(r *http.Request) (*http.Response, error) {
	h, err := s.begin(r)
	if err != nil {
		return nil, err
	}
	wire, done, err := s.wires.take(r.Context(), s.timeout)
	if err != nil {
		h.err = err
		return nil, err
	}
	// from here on it is the shop's time: what a wait for a connection took is not
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	h.cancel, h.done = cancel, done
	r = r.WithContext(ctx) // a copy, but for its header
	// what only this side knows; vegeta makes the header anew for each hit, and does
	// not look at it again
	delete(r.Header, ticketHeader)
	delete(r.Header, vegetaSeq)
	if r.Body == nil || r.Body == http.NoBody {
		// Go's transport repeats a request without a body when a kept connection
		// breaks; a body that cannot be had again keeps it from hiding that. Where
		// the encoding is said, the transport does not probe for what is in it.
		r.Body, r.TransferEncoding = emptyBody{}, s.plain
	}
	r.GetBody = nil
	h.sent = s.desk.now()
	res, err := wire.RoundTrip(r)
	if err != nil {
		h.end()
		h.err = err
		return nil, err
	}
	h.ReadCloser, res.Body = res.Body, h
	return res, nil
}

// emptyBody is a body without a byte, whoever reads it.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error)         { return 0, io.EOF }
func (emptyBody) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (emptyBody) Close() error                     { return nil }

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
	if neverLeft(h.err) {
		s.desk.giveUp(h.n, h.err.Error())
		return
	}
	done := s.desk.at(r.Timestamp.Add(r.Latency)) // when it ended, not when it is read here
	j := judgeHTTP(edgeService(s.desk.route(h.n)), int(r.Code), r.Headers, r.Body, h.err)
	s.desk.finish(h.n, h.sent, done, h.orderID, j)
}

func (h *hit) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		h.err = err
	}
	return n, err
}

func (h *hit) Close() error {
	err := h.ReadCloser.Close()
	h.end()
	return err
}

func (h *hit) end() {
	h.done()
	h.cancel()
}
