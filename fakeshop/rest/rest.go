// Package rest is what the shop's HTTP edges have in common: strict decoding,
// answers as JSON, errors with their hop.
package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// BodyLimit is the most bytes a request body may have.
const BodyLimit = 64 << 10

// Raw is a body that is JSON already.
type Raw []byte

// Handler answers a request with a status and a value written as JSON, or with
// an error that Edge writes.
type Handler func(r *http.Request) (status int, body any, err error)

// Edge turns Handlers into http.Handlers that say who answered.
type Edge struct {
	Service string // as it begins the hop chain of a failure
	Pod     string
}

// ErrorBody is the JSON of every answer that is not a success.
type ErrorBody struct {
	Error string `json:"error"`
	Code  string `json:"code"`
	Hop   string `json:"hop,omitempty"` // of failures only, not of business answers
	Pod   string `json:"pod"`
}

// Handle makes h an http.Handler.
func (e Edge) Handle(h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, BodyLimit)
		status, body, err := h(r)
		if err != nil {
			e.Fail(w, err)
			return
		}
		e.write(w, status, body)
	})
}

// Unrouted answers a request that no pattern matches, where mux is what
// http.ServeMux would answer it with: 404, or 405 with its Allow header.
func (e Edge) Unrouted(w http.ResponseWriter, r *http.Request, mux http.Handler) {
	said := &statusOnly{header: w.Header(), status: http.StatusOK}
	mux.ServeHTTP(said, r)
	body := ErrorBody{Error: "there is no " + r.URL.Path, Code: "not_found", Pod: e.Pod}
	if said.status == http.StatusMethodNotAllowed {
		body = ErrorBody{Error: r.URL.Path + " does not take " + r.Method, Code: "method_not_allowed", Pod: e.Pod}
	} else {
		said.status = http.StatusNotFound
	}
	e.write(w, said.status, body)
}

// statusOnly lets a handler speak without a word reaching the client.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// Fail answers with err.
func (e Edge) Fail(w http.ResponseWriter, err error) {
	f := fail.From(err)
	body := ErrorBody{Error: f.Message, Code: f.Word(), Pod: e.Pod}
	if fail.IsFailure(f.Code) {
		body.Hop = f.Chain(e.Service)
		if f.Pod != "" {
			body.Pod = f.Pod
		}
	}
	e.write(w, Status(f), body)
}

func (e Edge) write(w http.ResponseWriter, status int, body any) {
	raw, ready := body.(Raw)
	if !ready {
		var err error
		if raw, err = Encode(body); err != nil {
			http.Error(w, "the answer cannot be written as JSON", http.StatusInternalServerError)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	h.Set(shopapi.PodHeader, e.Pod)
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a client that has gone is its own affair
}

// Encode writes a body as the edge does, with a line's end.
func Encode(body any) (Raw, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // nothing of this is HTML, and hops are written with ">"
	err := enc.Encode(body)
	return out.Bytes(), err
}

// Status is the HTTP status that an error is answered with.
func Status(f *fail.Error) int {
	switch f.Reason {
	case "out_of_stock", "reservation_expired":
		return http.StatusConflict
	case "payment_declined", "payment_unresolved":
		return http.StatusPaymentRequired
	case "too_large":
		return http.StatusRequestEntityTooLarge
	}
	switch f.Code {
	case codes.InvalidArgument, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists:
		return http.StatusConflict
	case codes.FailedPrecondition:
		return http.StatusUnprocessableEntity
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// Decode reads one JSON value of r's body into v: no unknown fields, nothing
// after it.
func Decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return decodeError(err)
	}
	var rest json.RawMessage
	if err := dec.Decode(&rest); !errors.Is(err, io.EOF) {
		if tooLarge(err) {
			return decodeError(err)
		}
		return Invalid("the body holds more than one JSON value")
	}
	return nil
}

// Invalid is a 400 with the given reason.
func Invalid(format string, args ...any) error {
	return fail.New(codes.InvalidArgument, "", format, args...)
}

func tooLarge(err error) bool {
	_, ok := errors.AsType[*http.MaxBytesError](err)
	return ok
}

func decodeError(err error) error {
	if tooLarge(err) {
		return fail.New(codes.InvalidArgument, "too_large", "the body is larger than %d bytes", BodyLimit)
	}
	if errors.Is(err, io.EOF) {
		return Invalid("the body is empty, JSON is wanted")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return Invalid("the body's JSON ends too early")
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return Invalid("the body is not JSON: %v (byte %d)", e, e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		where := e.Field
		if where == "" {
			where = "the body"
		}
		return Invalid("%s: wants %s, not a JSON %s", where, jsonKind(e), e.Value)
	}
	return Invalid("the body cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// jsonKind says what was wanted in JSON's words, not in Go's.
func jsonKind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a whole number that is not too large"
}
