package image

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxHold bounds what a registry may ask for in Retry-After.
const maxHold = 6 * time.Hour

// gate remembers which hosts asked to be left alone for a while (429 and 503 with Retry-After), so that nobody
// of this agent asks them before. It sits below all requests. The zero gate is not valid: next is needed.
type gate struct {
	next http.RoundTripper

	mu    sync.Mutex
	until map[string]time.Time
}

// held is the error of a request that was not sent.
type held struct {
	host  string
	until time.Time
}

// Error implements error.
func (h *held) Error() string {
	return fmt.Sprintf("%s limits how often it may be asked, and is left alone until %s", h.host, h.until.Format(time.TimeOnly))
}

// NotBefore is when asking again makes sense.
func (h *held) NotBefore() time.Time { return h.until }

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	now := time.Now()
	g.mu.Lock()
	until := g.until[req.URL.Host]
	g.mu.Unlock()
	if now.Before(until) {
		return nil, &held{req.URL.Host, until}
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	wait := retryAfter(resp, now)
	if wait > 0 {
		g.mu.Lock()
		if g.until == nil {
			g.until = map[string]time.Time{}
		}
		g.until[req.URL.Host] = now.Add(wait)
		g.mu.Unlock()
	}
	return resp, nil
}

// retryAfter is how long an answer asks to be left alone, 0 when it does not: RFC 9110, section 10.2.3.
func retryAfter(resp *http.Response, now time.Time) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	text := resp.Header.Get("Retry-After")
	secs, err := strconv.Atoi(text)
	if err == nil {
		return min(time.Duration(max(secs, 0))*time.Second, maxHold)
	}
	at, err := http.ParseTime(text)
	if err == nil {
		return min(max(at.Sub(now), 0), maxHold)
	}
	return 0
}
