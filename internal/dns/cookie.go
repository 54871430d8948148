package dns

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"
)

// Lengths of RFC 7873 4: what the client sends of its own, and the server part it may send back.
const (
	clientCookie    = 8
	serverCookie    = 16
	leastCookie     = 16
	longestCookie   = 40
	cookieOptionLen = 4 + clientCookie + serverCookie
)

// takeCookie reads the client's part of a cookie option; ok is false when it has no length that one can have.
func (q *query) takeCookie(data []byte) (ok bool) {
	if len(data) != clientCookie && (len(data) < leastCookie || len(data) > longestCookie) {
		return false
	}
	copy(q.client[:], data)
	q.hasCookie = true
	return true
}

// bake makes the server's part of the cookie (in the form of RFC 9018 4): the client knows by it that the reply
// comes from whom it asked. We do not ask for it back: our clients cannot forge their addresses.
func (q *query) bake(secret [32]byte, src netip.Addr, now time.Time) {
	if !q.hasCookie {
		return
	}
	q.server[0] = 1
	binary.BigEndian.PutUint32(q.server[4:], uint32(now.Unix()))
	h := hmac.New(sha256.New, secret[:])
	h.Write(q.client[:])
	h.Write(q.server[:8])
	h.Write(src.AsSlice())
	copy(q.server[8:], h.Sum(nil))
}

// cookie returns the option for the reply.
func (q *query) cookie() []byte {
	if !q.hasCookie {
		return nil
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, cookieOptionLen), miekg.EDNS0COOKIE)
	b = binary.BigEndian.AppendUint16(b, clientCookie+serverCookie)
	b = append(b, q.client[:]...)
	return append(b, q.server[:]...)
}
