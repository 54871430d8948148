package api

import (
	"net/http"
	"os/user"
	"strconv"
)

func (s *Server) history(r *http.Request) (any, error) {
	all, err := s.backend.History(r.Context(), r.URL.Query().Get("stack"))
	return list(all), err
}

func (s *Server) generation(r *http.Request) (any, error) {
	n, err := strconv.ParseUint(r.URL.Query().Get("number"), 10, 64)
	if err != nil {
		return nil, &Error{Kind: BadRequest, Text: "a generation is a number", Hint: "\"ic-agent history STACK\" lists them"}
	}
	return s.backend.Generation(r.Context(), r.URL.Query().Get("stack"), n)
}

func (s *Server) why(r *http.Request) (any, error) {
	return s.backend.Why(r.Context(), r.URL.Query().Get("stack"), r.URL.Query().Get("service"))
}

func (s *Server) rollback(r *http.Request) (any, error) {
	req, err := decode[RollbackRequest](r)
	if err != nil {
		return nil, err
	}
	return s.backend.Rollback(r.Context(), req, caller(r))
}

func (s *Server) retry(r *http.Request) (any, error) {
	req, err := decode[RetryRequest](r)
	if err != nil {
		return nil, err
	}
	return s.backend.Retry(r.Context(), req, caller(r))
}

func (s *Server) apply(r *http.Request) (any, error) {
	req, err := decode[ApplyRequest](r)
	if err != nil {
		return nil, err
	}
	return s.backend.Apply(r.Context(), req, caller(r))
}

// caller names the user who asks.
func caller(r *http.Request) string {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(p.uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return "uid " + id
	}
	return u.Username
}
