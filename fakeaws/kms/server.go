// Package kms stands in for AWS KMS: one symmetric key and the operations that
// Vault's awskms seal needs, over the JSON 1.1 protocol the AWS SDKs speak.
package kms

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "TrentService."
	maxRequest   = 64 << 10
)

// Options configure a Server. All but Aliases are needed.
type Options struct {
	Key     *Key
	Region  string   // as in the key's ARN
	Account string   // twelve digits, as in the key's ARN
	Aliases []string // "alias/…", every one a name of the key
	Log     *slog.Logger
}

// Server answers KMS requests; it is safe for concurrent use.
type Server struct {
	key     *Key
	region  string
	account string
	aliases []string
	log     *slog.Logger
}

// New returns a server for one key.
func New(o Options) *Server {
	return &Server{key: o.Key, region: o.Region, account: o.Account, aliases: slices.Clone(o.Aliases), log: o.Log}
}

// KeyARN is the full name of the key.
func (s *Server) KeyARN() string { return s.arn("key/" + s.key.ID) }

func (s *Server) arn(resource string) string {
	return "arn:aws:kms:" + s.region + ":" + s.account + ":" + resource
}

type operation func(s *Server, body []byte) (any, *apiError)

// operationOf is the table of what this stand-in can do.
func operationOf(name string) (operation, bool) {
	switch name {
	case "DescribeKey":
		return (*Server).describeKey, true
	case "Encrypt":
		return (*Server).encrypt, true
	case "Decrypt":
		return (*Server).decrypt, true
	case "GenerateDataKey":
		return (*Server).generateDataKey, true
	}
	return nil, false
}

// ServeHTTP answers one request. Bodies are never logged.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newUUID()
	w.Header().Set("x-amzn-RequestId", id)
	name, answer, fail := s.answer(w, r)
	if fail != nil {
		s.log.Warn("kms request refused", "request", id, "operation", name, "type", fail.Type, "reason", fail.Message)
		write(w, fail.Status, fail)
		return
	}
	s.log.Info("kms request", "request", id, "operation", name)
	write(w, http.StatusOK, answer)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) (string, any, *apiError) {
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		return "", nil, newError("UnknownOperationException", "only POST / is served")
	}
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if !ok {
		return "", nil, newError("UnknownOperationException", "X-Amz-Target does not name an operation of TrentService")
	}
	do, ok := operationOf(name)
	if !ok {
		return "unknown", nil, newError("UnknownOperationException", "the operation is not among those of this stand-in")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != contentType {
		return name, nil, newError("SerializationException", "Content-Type is not "+contentType)
	}
	if fail := checkAuthorization(r); fail != nil {
		return name, nil, fail
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return name, nil, newError("ValidationException", "the request is too large")
		}
		return name, nil, newError("SerializationException", "the request could not be read")
	}
	answer, fail := do(s, body)
	return name, answer, fail
}

func write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"__type":"KMSInternalException"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(data) // a caller who has gone needs no answer
}
