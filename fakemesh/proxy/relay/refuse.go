package relay

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// gRPC's codes, as far as a proxy makes them.
const (
	codeCanceled          = 1
	codeUnknown           = 2
	codeDeadlineExceeded  = 4
	codeNotFound          = 5
	codePermissionDenied  = 7
	codeResourceExhausted = 8
	codeInternal          = 13
	codeUnavailable       = 14
)

// Overloaded is the answer to what is over a limit of the proxy.
var Overloaded = &Error{Status: http.StatusServiceUnavailable, Kind: "loadshed", Err: errors.New("the proxy has too many requests in hand")}

// IsGRPC says whether headers are those of a gRPC request or response.
func IsGRPC(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
}

// refuse answers a request that no server answered.
func (x *Relay) refuse(flow *metrics.HTTP, err error, took time.Duration) {
	if x.R.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// Nobody is there to read an answer.
		panic(http.ErrAbortHandler)
	}
	var own *Error
	if !errors.As(err, &own) {
		own = &Error{http.StatusBadGateway, "unexpected", err}
		if errors.Is(err, context.DeadlineExceeded) || wasReset(err) && tookItsTime(x.R.Header, took) {
			own.Status, own.Kind = http.StatusGatewayTimeout, "timeout"
		}
	}
	x.Fail(own)
	end := Write(x.W, x.R, own, true)
	count(flow, end, took)
}

// Write answers with an error of the proxy's own: in gRPC to gRPC requests, in
// HTTP to others. When last, the client is to come back by a new connection.
func Write(w http.ResponseWriter, r *http.Request, e *Error, last bool) metrics.Response {
	h := w.Header()
	message := sanitize(e.Error())
	h.Set("L5d-Proxy-Error", message)
	if last {
		h.Set("Connection", "close")
	}
	if !IsGRPC(r.Header) {
		h.Set("Content-Length", "0")
		w.WriteHeader(e.Status)
		return metrics.Response{Status: e.Status, Error: e.Kind}
	}
	code := strconv.Itoa(e.grpcCode())
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", code)
	h.Set("Grpc-Message", message)
	w.WriteHeader(http.StatusOK)
	return metrics.Response{Status: http.StatusOK, GRPCStatus: code, Error: e.Kind}
}

// grpcCode is what a client without a proxy would have been told: of a stream that
// the server reset, its reason.
func (e *Error) grpcCode() int {
	if e.Status == http.StatusBadGateway && wasReset(e.Err) {
		return grpcFromReset(e.Err)
	}
	switch e.Status {
	case http.StatusForbidden:
		return codePermissionDenied
	case http.StatusNotFound:
		return codeNotFound
	case http.StatusGatewayTimeout:
		return codeDeadlineExceeded
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return codeUnavailable
	case http.StatusTooManyRequests:
		return codeResourceExhausted
	case http.StatusInternalServerError:
		return codeInternal
	default:
		return codeUnknown
	}
}

func wasReset(err error) bool {
	var stream http2.StreamError
	return errors.As(err, &stream)
}

// tookItsTime says whether a gRPC request took as long as its client lets it: a
// server that ends it then resets the stream, and means that.
func tookItsTime(h http.Header, took time.Duration) bool {
	text := h.Get("Grpc-Timeout")
	if len(text) < 2 || len(text) > 9 {
		return false
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	unit, known := grpcUnits[text[len(text)-1]]
	return err == nil && known && took/unit >= time.Duration(n)
}

// grpcUnits are those of the header grpc-timeout; its number has 8 digits at most.
var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// sanitize keeps an error's text to what a header may hold.
func sanitize(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '%' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 256)]
}
