package kms

import "net/http"

// apiError is an error as AWS's JSON 1.1 services answer it.
type apiError struct {
	Status  int    `json:"-"`
	Type    string `json:"__type"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Type + ": " + e.Message }

// newError is a client's mistake: status 400 as in all of this protocol.
func newError(kind, message string) *apiError {
	return &apiError{Status: http.StatusBadRequest, Type: kind, Message: message}
}

func internalError() *apiError {
	return &apiError{Status: http.StatusInternalServerError, Type: "KMSInternalException", Message: "the request failed inside the service"}
}
