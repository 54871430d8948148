package api

import (
	"context"
	"net/http"
	"net/url"
)

func (s *Server) dns(r *http.Request) (any, error) {
	q := r.URL.Query()
	if q.Get("name") == "" {
		return nil, &Error{BadRequest, "no name is given", "ask for /v1/dns?name=web"}
	}
	return s.backend.DNS(r.Context(), q.Get("name"), q.Get("from"))
}

// DNS asks what from, an instance or an address, is answered when it asks for name; an empty from is the host.
func (c *Client) DNS(ctx context.Context, name, from string) (DNSReply, error) {
	var reply DNSReply
	err := c.call(ctx, http.MethodGet, "/v1/dns?"+url.Values{"name": {name}, "from": {from}}.Encode(), nil, &reply)
	return reply, err
}
