package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

// Sizes of RFC 1035, and the UDP payload that crosses every network unfragmented (RFC 9715).
const (
	headerLen  = 12
	optLen     = 11 // an OPT record without options
	minPayload = 512
	maxPayload = 1232
	maxMessage = 65535
)

// Bits of the header's second and third 16 bits (RFC 1035 4.1.1, RFC 4035 3.1.6).
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeMask = 0xf << 11
	rcodeMask  = 0xf
)

// query is a message from a client, taken apart.
type query struct {
	id, flags uint16
	// asked is the question as bytes, question the same to read; both empty when there was none to read.
	asked    []byte
	question Question
	// edns is whether it came with an OPT record; version, payload and do are read from there.
	edns    bool
	version uint8
	payload int
	do      bool
	// hasCookie is whether it came with a cookie; client is the client's part of it, server ours.
	hasCookie bool
	client    [clientCookie]byte
	server    [serverCookie]byte
	// subnet is the client it is asked for; the zero subnet when it does not say.
	subnet subnet
	// rcode is what is wrong with it; RcodeSuccess when it can be answered.
	rcode int
}

// limit is how long the reply may be (RFC 6891 6.2.3).
func (q *query) limit(tcp bool) int {
	if tcp {
		return maxMessage
	}
	if !q.edns {
		return minPayload
	}
	return min(max(q.payload, minPayload), maxPayload)
}

// readQuery takes a message apart. It returns nil for one that must not be answered at all: too short to
// have an identity, or itself an answer.
func readQuery(msg []byte) *query {
	if len(msg) < headerLen {
		return nil
	}
	q := &query{id: binary.BigEndian.Uint16(msg), flags: binary.BigEndian.Uint16(msg[2:])}
	if q.flags&flagQR != 0 {
		return nil
	}
	if q.flags&opcodeMask != 0 {
		q.rcode = miekg.RcodeNotImplemented
		return q
	}
	if !q.readSections(msg) {
		return &query{id: q.id, flags: q.flags, rcode: miekg.RcodeFormatError}
	}
	if q.edns && q.version != 0 {
		q.rcode = miekg.RcodeBadVers
	}
	return q
}

// readSections reads what follows the header and tells whether it is well formed: one question, no answer,
// at most one OPT.
func (q *query) readSections(msg []byte) bool {
	count := func(i int) int { return int(binary.BigEndian.Uint16(msg[4+2*i:])) }
	if count(0) != 1 || count(1) != 0 || count(2) > 1 || count(3) > 2 {
		return false
	}
	end, plain := nameEnd(msg, headerLen)
	if !plain || end+4 > len(msg) {
		return false
	}
	name, _, err := miekg.UnpackDomainName(msg, headerLen)
	if err != nil {
		return false
	}
	q.asked = msg[headerLen : end+4]
	q.question = Question{
		Name: name, Type: binary.BigEndian.Uint16(msg[end:]), Class: binary.BigEndian.Uint16(msg[end+2:]),
	}
	off := end + 4
	for range count(2) + count(3) {
		r, ok := readRR(msg, off)
		if !ok {
			return false
		}
		off = r.end
		if r.typ != miekg.TypeOPT {
			continue
		}
		if q.edns || msg[r.start] != 0 || !q.readOptions(msg[r.data:r.end]) {
			return false
		}
		q.edns, q.payload = true, int(r.class)
		q.version, q.do = uint8(r.ttl>>16), r.ttl&(1<<15) != 0
	}
	return true
}

// rr is where a resource record lies in a message, and its fixed fields.
type rr struct {
	start, data, end int
	typ, class       uint16
	ttl              uint32
}

// readRR reads the record at an offset.
func readRR(msg []byte, off int) (rr, bool) {
	fixed, _ := nameEnd(msg, off)
	if fixed < 0 || fixed+10 > len(msg) {
		return rr{}, false
	}
	r := rr{
		start: off, data: fixed + 10,
		typ: binary.BigEndian.Uint16(msg[fixed:]), class: binary.BigEndian.Uint16(msg[fixed+2:]),
		ttl: binary.BigEndian.Uint32(msg[fixed+4:]),
	}
	r.end = r.data + int(binary.BigEndian.Uint16(msg[fixed+8:]))
	return r, r.end <= len(msg)
}

// nameEnd returns the offset behind a name, or -1 when it runs out of the message. Plain is whether it is
// written out, without a compression pointer.
func nameEnd(msg []byte, off int) (end int, plain bool) {
	for off < len(msg) {
		c := int(msg[off])
		switch {
		case c == 0:
			return off + 1, true
		case c&0xc0 == 0xc0 && off+2 <= len(msg):
			return off + 2, false
		case c&0xc0 != 0:
			return -1, false
		}
		off += 1 + c
	}
	return -1, false
}

// readOptions reads the data of an OPT record and tells whether it is a list of options (RFC 6891 6.1.2).
func (q *query) readOptions(data []byte) bool {
	for len(data) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(data[2:]))
		if n > len(data) {
			return false
		}
		cookie := binary.BigEndian.Uint16(data) == miekg.EDNS0COOKIE && !q.hasCookie
		if cookie && !q.takeCookie(data[4:n]) {
			return false
		}
		if binary.BigEndian.Uint16(data) == miekg.EDNS0SUBNET && !q.subnet.there {
			q.subnet = readSubnet(data[4:n])
		}
		data = data[n:]
	}
	return len(data) == 0
}

// layout is where the parts of an upstream's answer lie.
type layout struct {
	question, end int // the offsets behind the question and behind the last record
	opt           rr  // opt.end is 0 when there is no OPT record
}

// readAnswer finds the parts of an answer; ok is false for a message that cannot be followed.
func readAnswer(msg []byte) (l layout, ok bool) {
	end, plain := nameEnd(msg, headerLen)
	if !plain || end+4 > len(msg) || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return layout{}, false
	}
	l = layout{question: end + 4, end: end + 4}
	records := 0
	for i := 6; i < headerLen; i += 2 {
		records += int(binary.BigEndian.Uint16(msg[i:]))
	}
	for range records {
		r, good := readRR(msg, l.end)
		if !good {
			return layout{}, false
		}
		l.end = r.end
		if r.typ == miekg.TypeOPT {
			l.opt = r
		}
	}
	return l, true
}
