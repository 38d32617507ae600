package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"besa/internal/generate"
	"besa/internal/llama"
)

// Kinds of errors, as OpenAI calls them.
const (
	invalidRequest = "invalid_request_error"
	rateLimit      = "rate_limit_error"
	serverError    = "server_error"
)

// apiError is an error that a client gets.
type apiError struct {
	status  int
	kind    string
	code    string // for programs; may be empty
	param   string // the field at fault; may be empty
	message string
}

// Error implements error.
func (e *apiError) Error() string { return e.message }

// refuse is the client's mistake in a field.
func refuse(param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: invalidRequest, param: param, message: fmt.Sprintf(format, args...)}
}

// asAPIError sorts errors of decoding and generating. Those that are nobody's
// business but the operator's keep their text to themselves.
func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &apiError{status: http.StatusRequestEntityTooLarge, kind: invalidRequest, code: "request_too_large",
			message: fmt.Sprintf("the request has more than %d bytes", e.Limit)}
	}
	switch {
	case errors.Is(err, generate.ErrBusy):
		return &apiError{status: http.StatusTooManyRequests, kind: rateLimit, code: "queue_full", message: err.Error()}
	case errors.Is(err, generate.ErrTooLong):
		return &apiError{status: http.StatusBadRequest, kind: invalidRequest, code: "context_length_exceeded", message: err.Error()}
	case errors.Is(err, generate.ErrRequest), errors.Is(err, llama.ErrSampling), errors.Is(err, llama.ErrNoTemplate):
		return refuse("", "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return &apiError{status: http.StatusGatewayTimeout, kind: serverError, code: "timeout", message: "the request took longer than this server allows"}
	case errors.Is(err, generate.ErrClosed), errors.Is(err, context.Canceled):
		return &apiError{status: http.StatusServiceUnavailable, kind: serverError, code: "shutting_down", message: "the server is shutting down"}
	}
	return &apiError{status: http.StatusInternalServerError, kind: serverError, message: "the model failed; the server's log says why"}
}

// body is the error as JSON.
func (e *apiError) body() any {
	type detail struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	optional := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return struct {
		Error detail `json:"error"`
	}{detail{e.message, e.kind, optional(e.param), optional(e.code)}}
}

func writeError(w http.ResponseWriter, e *apiError) {
	switch e.status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, e.status, e.body())
}

// writeJSON sends a document. A client that is gone is nobody's error.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // our own types always marshal
		status, data = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
