package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// UpdateRequest asks the registries about newer images.
type UpdateRequest struct {
	// Stack is asked about; empty means all.
	Stack string `json:"stack,omitempty"`
	// Apply takes what is newer, whatever the files' policy.
	Apply bool `json:"apply,omitempty"`
}

// UpdateReply is what is known of the image of one service.
type UpdateReply struct {
	Stack   string `json:"stack"`
	Service string `json:"service"`
	Image   string `json:"image"`
	// Before is the digest that was in force when it was asked, Now that in force afterwards; empty when the image
	// is not known.
	Before string `json:"before,omitempty"`
	Now    string `json:"now,omitempty"`
	// Text says the rest: that it is up to date, which digest is available, why nobody answered.
	Text string `json:"text"`
	// Failed says that it could not be found out.
	Failed bool `json:"failed,omitempty"`
}

// Update asks the registries of a stack, or of all, about newer images.
func (c *Client) Update(ctx context.Context, req UpdateRequest) ([]UpdateReply, error) {
	var r []UpdateReply
	err := c.call(ctx, http.MethodPost, "/v1/update", req, &r)
	return r, err
}

func (s *Server) update(r *http.Request) (any, error) {
	var req UpdateRequest
	err := json.NewDecoder(r.Body).Decode(&req)
	if err != nil && !errors.Is(err, io.EOF) { // an empty body is an empty request
		return nil, &Error{Kind: BadRequest, Text: "the request is not the JSON expected: " + err.Error()}
	}
	replies, err := s.backend.Update(r.Context(), req)
	return list(replies), err
}
