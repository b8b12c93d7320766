package traffic

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// errorLimit is how much of an error's text is kept.
const errorLimit = 300

// judgement is what one answer, or its absence, means.
type judgement struct {
	Status  int
	Outcome string
	Class   string // "" unless failed
	Hop     string // of failures
	Pod     string
	Error   string // of failures and rejections
	Hops    string // as the shop told them, or ""
}

// shopError is the body of the shop's answers that are not successes.
type shopError struct {
	Error string `json:"error"`
	Code  string `json:"code"`
	Hop   string `json:"hop"`
	Pod   string `json:"pod"`
}

// judgeHTTP classifies an HTTP answer; err is what kept one from coming.
// service is the one that was asked.
func judgeHTTP(service string, code int, header http.Header, body []byte, err error) judgement {
	if err != nil {
		return judgement{Outcome: results.Failed, Class: classOf(err), Hop: service, Error: clip(err.Error())}
	}
	j := judgement{Status: code, Outcome: results.OK, Pod: header.Get(shopapi.PodHeader), Hops: told(header.Get(shopapi.HopsHeader))}
	if code >= 200 && code < 300 {
		return j
	}
	var said shopError
	if json.Unmarshal(body, &said) != nil {
		said = shopError{} // not the shop's words: a proxy's, or cut off
	}
	j.Error = clip(said.Error)
	// only the shop itself refuses customers; a load balancer's 404 is a failure
	if isBusiness(code) && j.Pod != "" {
		j.Outcome = results.Rejected
		return j
	}
	j.Outcome = results.Failed
	j.Class = "http-" + strconv.Itoa(code)
	if code == http.StatusForbidden && (said.Code == "permission_denied" || header.Get("L5d-Proxy-Error") != "") {
		j.Class = results.ClassPolicyDenied
	}
	j.Hop = said.Hop
	if j.Hop == "" {
		j.Hop = service
	}
	if said.Pod != "" {
		j.Pod = said.Pod
	}
	if j.Error == "" {
		j.Error = clip(firstOf(header.Get("L5d-Proxy-Error"), strconv.Itoa(code)+" "+http.StatusText(code)))
	}
	return j
}

// told keeps of a line of hops what can be read again.
func told(line string) string {
	if !hops.Valid(line) {
		return ""
	}
	return line
}

// isBusiness tells the answers that are the shop's business from failures.
func isBusiness(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound,
		http.StatusConflict, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// judgeGRPC classifies the end of a gRPC call.
func judgeGRPC(service string, err error, trailer metadata.MD) judgement {
	s, _ := status.FromError(err)
	j := judgement{Status: int(s.Code()), Outcome: results.OK, Pod: first(trailer, shopapi.PodHeader), Hops: told(first(trailer, shopapi.HopsHeader))}
	if s.Code() == codes.OK {
		return j
	}
	j.Error = clip(s.Message())
	if IsBusinessCode(s.Code()) && j.Pod != "" {
		j.Outcome = results.Rejected
		return j
	}
	j.Outcome = results.Failed
	j.Class = grpcClass(s, j.Pod != "")
	j.Hop = firstOf(first(trailer, shopapi.HopHeader), service)
	j.Pod = firstOf(first(trailer, shopapi.FailedPodHeader), j.Pod)
	return j
}

// IsBusinessCode tells whether a code is a business answer: sold out, declined,
// not found.
func IsBusinessCode(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition:
		return true
	}
	return false
}

// grpcClass names a failed call's class. What the shop did not answer was made
// up by this side, which has only words for what happened to the connection.
func grpcClass(s *status.Status, answered bool) string {
	switch {
	case s.Code() == codes.PermissionDenied:
		return results.ClassPolicyDenied
	case answered:
	case s.Code() == codes.DeadlineExceeded:
		return results.ClassTimeout
	case s.Code() == codes.Unavailable:
		for _, known := range []struct{ words, class string }{
			{"connection refused", results.ClassConnectRefused},
			{"connection reset", results.ClassReset},
			{"broken pipe", results.ClassReset},
			{"authentication handshake failed", results.ClassTLS},
			{"i/o timeout", results.ClassTimeout},
			{"EOF", results.ClassEOF},
			{"error reading from server", results.ClassEOF},
		} {
			if strings.Contains(s.Message(), known.words) {
				return known.class
			}
		}
	}
	return "grpc-" + CodeName(s.Code())
}

// CodeName is the code as protocols write it: NOT_FOUND.
func CodeName(c codes.Code) string {
	names := [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
		"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
	if int(c) < len(names) {
		return names[c]
	}
	return strconv.Itoa(int(c))
}

// classOf names what kept an HTTP answer from coming.
func classOf(err error) string {
	// the sender's own limits say nothing about the shop
	for _, own := range []error{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, context.Canceled, errForeign} {
		if errors.Is(err, own) {
			return results.ClassSender
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		return results.ClassTimeout
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return results.ClassConnectRefused
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return results.ClassReset
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return results.ClassTLS
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return results.ClassTLS
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "server closed idle connection") {
		return results.ClassEOF
	}
	return "protocol" // an answer came, and it was not HTTP
}

func first(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func clip(s string) string {
	if len(s) <= errorLimit {
		return s
	}
	return strings.ToValidUTF8(s[:errorLimit], "") + "…"
}
