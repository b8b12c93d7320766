package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// answer passes a response on.
func (x *Relay) answer(res *http.Response, flow *metrics.HTTP, start time.Time) {
	defer res.Body.Close()
	announced := x.head(res)
	first, err := x.body(res)
	if first.IsZero() {
		first = time.Now()
	}
	if err != nil {
		x.brokeOff(err, res, flow, first.Sub(start))
		return
	}
	x.trailer(res, announced)
	whole(res, flow, first.Sub(start))
}

// body passes on what follows the head, and tells when the first of it was there.
func (x *Relay) body(res *http.Response) (first time.Time, err error) {
	// A length of 0 means that the head was the end as well, and it must be in
	// one frame again: gRPC knows by it that there are only trailers.
	if res.ContentLength == 0 {
		return first, nil
	}
	if err := http.NewResponseController(x.W).Flush(); err != nil {
		return first, fmt.Errorf("%w: %w", errClient, err)
	}
	return copyBody(x.W, res.Body)
}

func (x *Relay) trailer(res *http.Response, announced []string) {
	h := x.W.Header()
	for name, values := range res.Trailer {
		if !slices.Contains(announced, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// whole counts a response that did not break off.
func whole(res *http.Response, flow *metrics.HTTP, took time.Duration) {
	end := metrics.Response{Status: res.StatusCode}
	if IsGRPC(res.Header) {
		end.GRPCStatus = grpcStatus(res)
	}
	count(flow, end, took)
}

func grpcStatus(res *http.Response) string {
	if s := res.Trailer.Get("Grpc-Status"); s != "" {
		return bounded(s)
	}
	if s := res.Header.Get("Grpc-Status"); s != "" {
		return bounded(s)
	}
	return "2"
}

// bounded keeps what a server may have made up out of the labels.
func bounded(s string) string {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 16 {
		return s
	}
	return "2"
}

// head passes the head on, and tells which trailers it announced.
func (x *Relay) head(res *http.Response) (announced []string) {
	announced = slices.Collect(keys(res.Trailer))
	stripResponse(res.Header)
	h := x.W.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	for _, name := range [...]string{"Date", "Content-Type"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // or net/http puts its own
		}
	}
	if _, ok := h["Content-Length"]; !ok && x.R.ProtoMajor == 2 {
		h["Content-Length"] = nil // the same: a response of trailers only has none
	}
	if len(announced) > 0 {
		h["Trailer"] = []string{strings.Join(announced, ", ")}
	}
	x.W.WriteHeader(res.StatusCode)
	return announced
}

func stripResponse(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" && !strings.EqualFold(name, "close") {
				h.Del(name)
			}
		}
	}
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}

func keys(t http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range t {
			if !yield(k) {
				return
			}
		}
	}
}

// errClient means that the client does not take the response.
var errClient = errors.New("write the response")

var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// copyBody passes each piece on as soon as it is there, and tells when the
// first was.
func copyBody(w http.ResponseWriter, body io.Reader) (first time.Time, err error) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	rc := http.NewResponseController(w)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if first.IsZero() {
				first = time.Now()
			}
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return first, fmt.Errorf("%w: %w", errClient, werr)
			}
			if err == nil {
				if ferr := rc.Flush(); ferr != nil {
					return first, fmt.Errorf("%w: %w", errClient, ferr)
				}
			}
		}
		if err == io.EOF {
			return first, nil
		}
		if err != nil {
			return first, err
		}
	}
}

// brokeOff ends a response whose head is sent already.
func (x *Relay) brokeOff(err error, res *http.Response, flow *metrics.HTTP, took time.Duration) {
	end := metrics.Response{Status: res.StatusCode}
	isGRPC := IsGRPC(res.Header)
	gone := errors.Is(err, errClient) || errors.Is(x.R.Context().Err(), context.Canceled)
	if gone {
		if isGRPC {
			end.GRPCStatus = strconv.Itoa(codeCanceled)
			count(flow, end, took)
		}
		panic(http.ErrAbortHandler)
	}
	end.Error = "broken"
	if !isGRPC {
		count(flow, end, took)
		x.Fail(&Error{http.StatusBadGateway, end.Error, err})
		panic(http.ErrAbortHandler)
	}
	code := grpcFromReset(err)
	end.GRPCStatus = strconv.Itoa(code)
	h := x.W.Header()
	h[http.TrailerPrefix+"Grpc-Status"] = []string{end.GRPCStatus}
	h[http.TrailerPrefix+"Grpc-Message"] = []string{"the response broke off"}
	h[http.TrailerPrefix+"L5d-Proxy-Error"] = []string{"the response broke off"}
	count(flow, end, took)
	x.Fail(&Error{http.StatusBadGateway, end.Error, err})
}

// grpcFromReset is gRPC's code for how HTTP/2 ended a stream.
func grpcFromReset(err error) int {
	var stream http2.StreamError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codeDeadlineExceeded
	case !errors.As(err, &stream):
		return codeUnavailable
	}
	switch stream.Code {
	case http2.ErrCodeRefusedStream:
		return codeUnavailable
	case http2.ErrCodeCancel:
		return codeCanceled
	case http2.ErrCodeEnhanceYourCalm:
		return codeResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return codePermissionDenied
	default:
		return codeInternal
	}
}

func count(flow *metrics.HTTP, end metrics.Response, took time.Duration) {
	if flow != nil {
		flow.Response(end, took)
	}
}
