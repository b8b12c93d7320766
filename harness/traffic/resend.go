package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
)

// Prepared is one request of a script, ready to be sent once more.
type Prepared struct {
	Seq     uint64 `json:"seq"`
	Route   string `json:"route"`
	Proto   string `json:"proto"`  // http | grpc
	Method  string `json:"method"` // GET, POST, or package.Service/Method
	Path    string `json:"path,omitempty"`
	Body    string `json:"body,omitempty"`    // JSON, also of a gRPC message
	OrderID string `json:"orderId,omitempty"` // the order's idempotency key

	service string // at the edge
	message proto.Message
}

// Prepare makes the request with an index. route is that of the run's record,
// which must agree; "" trusts the seed alone, which a replay's do not follow.
func (s *Script) Prepare(seq uint64, route string) (*Prepared, error) {
	scripted, err := s.route(seq)
	switch {
	case errors.Is(err, errRecorded) && route != "":
		scripted = route
	case err != nil:
		return nil, fmt.Errorf("request %d: %w", seq, err)
	case route != "" && route != scripted:
		return nil, fmt.Errorf("request %d is %s by the seed, and %s by the record: they are not of the same run, or of another version", seq, scripted, route)
	}
	p := &Prepared{Seq: seq, Route: scripted, Proto: protoOf(scripted), service: edgeService(scripted)}
	if m, ok := methodFor(scripted); ok {
		p.Method, p.message = m.name, s.message(seq, m)
		body, err := protojson.Marshal(p.message)
		if err != nil {
			return nil, fmt.Errorf("write the message of request %d: %w", seq, err)
		}
		p.Body = string(body)
		return p, nil
	}
	c, err := s.call(seq, scripted)
	if err != nil {
		return nil, fmt.Errorf("request %d: %w", seq, err)
	}
	p.Method, p.Path, p.Body, p.OrderID = c.method, c.path, string(c.body), c.orderID
	return p, nil
}

// Curl is the request as a command line: of curl, or of grpcurl, which reads
// the shop's protos from the root of the repository.
func (p *Prepared) Curl(addr string) string {
	if p.Proto == "grpc" {
		return fmt.Sprintf("grpcurl -plaintext -proto %s -d %s %s %s",
			p.message.ProtoReflect().Descriptor().ParentFile().Path(), quoted(p.Body), addr, p.Method)
	}
	words := []string{"curl", "-i"}
	if p.Method != http.MethodGet {
		words = append(words, "-X", p.Method)
	}
	if p.Body != "" {
		words = append(words, "-H", quoted(contentType+": "+jsonType), "-d", quoted(p.Body))
	}
	return strings.Join(append(words, quoted("http://"+addr+p.Path)), " ")
}

// quoted is a word of a shell.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// Answer is what a request was answered this time.
type Answer struct {
	Status  int           `json:"status"` // HTTP's or gRPC's
	Outcome string        `json:"outcome"`
	Class   string        `json:"class,omitempty"`
	Hop     string        `json:"hop,omitempty"`
	Pod     string        `json:"pod,omitempty"`
	Error   string        `json:"error,omitempty"`
	Took    time.Duration `json:"tookNs"`
	Hops    []hops.Hop    `json:"hops,omitempty"`
	Body    string        `json:"body,omitempty"` // of HTTP, the first 16 KiB
}

// Send sends the request to 127.0.0.1:port, on a connection of its own. The
// error is about the address; whatever became of the request is in the answer.
func (p *Prepared) Send(ctx context.Context, addr string, timeout time.Duration) (Answer, error) {
	if err := checkAddress(p.Proto, addr); err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p.Proto == "grpc" {
		return p.sendGRPC(ctx, addr)
	}
	return p.sendHTTP(ctx, addr)
}

func (p *Prepared) sendHTTP(ctx context.Context, addr string) (Answer, error) {
	var body io.Reader
	if p.Body != "" {
		body = strings.NewReader(p.Body)
	}
	r, err := http.NewRequestWithContext(ctx, p.Method, "http://"+addr+p.Path, body)
	if err != nil {
		return Answer{}, fmt.Errorf("make request %d: %w", p.Seq, err)
	}
	r.GetBody = nil // it is sent once, whatever the connection does
	if p.Body != "" {
		r.Header.Set(contentType, jsonType)
	}
	t := transport(nil)
	t.DisableKeepAlives = true
	began := time.Now()
	res, err := t.RoundTrip(r)
	if err != nil {
		return p.answer(judgeHTTP(p.service, 0, nil, nil, err), began, nil), nil
	}
	defer res.Body.Close()
	var said bytes.Buffer
	if _, err = io.Copy(&said, io.LimitReader(res.Body, bodyLimit)); err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	return p.answer(judgeHTTP(p.service, res.StatusCode, res.Header, said.Bytes(), err), began, said.Bytes()), nil
}

func (p *Prepared) sendGRPC(ctx context.Context, addr string) (Answer, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		return Answer{}, fmt.Errorf("make a client for %s: %w", addr, err)
	}
	var trailer metadata.MD
	began := time.Now()
	// an empty message keeps what it does not know, so it takes any answer
	err = conn.Invoke(ctx, "/"+p.Method, p.message, new(emptypb.Empty), grpc.Trailer(&trailer))
	a := p.answer(judgeGRPC(p.service, err, trailer), began, nil)
	return a, conn.Close()
}

func (p *Prepared) answer(j judgement, began time.Time, body []byte) Answer {
	a := Answer{
		Status: j.Status, Outcome: j.Outcome, Class: j.Class, Hop: j.Hop, Pod: j.Pod, Error: j.Error,
		Took: time.Since(began), Body: string(body),
	}
	a.Hops, _ = hops.Parse(p.service, j.Hops) // none when the shop did not tell
	return a
}
