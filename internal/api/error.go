package api

import "net/http"

// Kind is the kind of an Error, stable for programs.
type Kind string

// The kinds of errors.
const (
	// BadRequest: the request makes no sense.
	BadRequest Kind = "bad_request"
	// Forbidden: the caller may not do that.
	Forbidden Kind = "forbidden"
	// NotFound: there is no such stack, or nothing to confirm.
	NotFound Kind = "not_found"
	// AwayIncus: Incus does not answer; the agent tries again by itself.
	AwayIncus Kind = "incus_away"
	// Internal: the agent could not do it.
	Internal Kind = "internal"
	// NotRunning: the agent could not be reached. Only a Client makes it.
	NotRunning Kind = "not_running"
)

// Error is how the API says no. Backends return it to choose the kind; any other error becomes Internal.
type Error struct {
	Kind Kind `json:"kind"`
	// Text says what is wrong, Hint what to do about it.
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"`
}

// Error returns "text: hint".
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + ": " + e.Hint
}

// code is the HTTP status of a kind.
func (k Kind) code() int {
	switch k {
	case BadRequest:
		return http.StatusBadRequest
	case Forbidden:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case AwayIncus, NotRunning:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
