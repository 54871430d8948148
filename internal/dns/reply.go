package dns

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"
)

// encode writes the reply to a query: the question byte for byte as it was asked, the answers as far as they
// fit into the limit, turned by turn places, and exactly one OPT record when the query had one.
func (q *query) encode(a Answer, recursion bool, turn uint64, limit int) []byte {
	tail := q.opt(a)
	room := min(limit, maxMessage) - len(tail)
	size := headerLen + len(q.asked)
	if a.SOA != nil {
		size += miekg.Len(a.SOA)
	}
	for _, r := range a.RRs {
		size += miekg.Len(r)
	}
	for _, r := range a.Extra {
		size += miekg.Len(r)
	}
	msg := make([]byte, min(size, room), min(size, room)+len(tail))
	off := headerLen + copy(msg[headerLen:], q.asked)
	names := q.compression()
	answers, cut := 0, false
	for i := range a.RRs {
		end, err := miekg.PackRR(a.RRs[turned(i, a.Near, len(a.RRs), turn)], msg, off, names, true)
		if err != nil {
			cut = true
			break
		}
		off = end
		answers++
	}
	authority := 0
	if a.SOA != nil {
		end, err := miekg.PackRR(a.SOA, msg, off, names, true)
		if err == nil {
			off = end
			authority = 1
		}
	}
	extra := 0
	for _, r := range a.Extra {
		end, err := miekg.PackRR(r, msg, off, names, true)
		if err != nil || cut {
			break
		}
		off = end
		extra++
	}
	msg = append(msg[:off], tail...)
	q.header(msg, a, recursion, cut)
	binary.BigEndian.PutUint16(msg[6:], uint16(answers))
	binary.BigEndian.PutUint16(msg[8:], uint16(authority))
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+uint16(extra))
	return msg
}

// turned returns which of n records stands at place i when each part, the near ones and the others, is turned
// by turn places.
func turned(i, near, n int, turn uint64) int {
	first, part := 0, near
	if i >= near {
		first, part = near, n-near
	}
	return first + int((turn%uint64(part)+uint64(i-first))%uint64(part))
}

// header writes the header of a reply, with the counts of what every reply has.
func (q *query) header(msg []byte, a Answer, recursion, cut bool) {
	flags := flagQR | q.flags&(opcodeMask|flagRD|flagCD) | uint16(a.Rcode&rcodeMask)
	if a.Authoritative {
		flags |= flagAA
	}
	if recursion {
		flags |= flagRA
	}
	if cut {
		flags |= flagTC
	}
	binary.BigEndian.PutUint16(msg, q.id)
	binary.BigEndian.PutUint16(msg[2:], flags)
	if len(q.asked) > 0 {
		binary.BigEndian.PutUint16(msg[4:], 1)
	}
	if q.edns {
		binary.BigEndian.PutUint16(msg[10:], 1)
	}
}

// opt returns the OPT record of a reply (RFC 6891), with the reason of a refusal in it (RFC 8914); nothing
// when the query had none.
func (q *query) opt(a Answer) []byte {
	if !q.edns {
		return nil
	}
	b := make([]byte, optLen, optLen+cookieOptionLen+6+len(a.Text))
	binary.BigEndian.PutUint16(b[1:], miekg.TypeOPT)
	binary.BigEndian.PutUint16(b[3:], maxPayload)
	b[5] = byte(a.Rcode >> 4)
	if q.do {
		b[7] = 1 << 7
	}
	b = append(b, q.cookie()...)
	b = append(b, q.subnet.option()...)
	if a.Text != "" {
		b = binary.BigEndian.AppendUint16(b, miekg.EDNS0EDE)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(a.Text)))
		b = binary.BigEndian.AppendUint16(b, a.Code)
		b = append(b, a.Text...)
	}
	binary.BigEndian.PutUint16(b[9:], uint16(len(b)-optLen))
	return b
}

// compression returns where the question's name and its parents stand in the message.
func (q *query) compression() map[string]int {
	names := map[string]int{}
	if len(q.asked) == 0 {
		return names
	}
	wire := headerLen
	for _, i := range miekg.Split(q.question.Name) {
		names[q.question.Name[i:]] = wire
		wire += 1 + int(q.asked[wire-headerLen])
	}
	return names
}

// relay turns an upstream's answer into the reply to a query: same answer, the query's identity, question
// bytes and OPT manners, with a note on how we came by it. It returns nil when the answer cannot be followed or
// does not fit.
func (q *query) relay(answer []byte, limit int, note Answer) []byte {
	l, ok := readAnswer(answer)
	if !ok || l.question-headerLen != len(q.asked) {
		return nil
	}
	msg := make([]byte, l.end, l.end+optLen)
	copy(msg, answer)
	binary.BigEndian.PutUint16(msg, q.id)
	copy(msg[headerLen:], q.asked)
	extra := binary.BigEndian.Uint16(msg[10:])
	switch had := l.opt.end > 0; {
	case had && q.edns && (note.Text != "" || q.hasCookie || q.subnet.believed) && l.opt.end == l.end && l.opt.ttl>>24 == 0:
		msg = append(msg[:l.opt.start], q.opt(note)...)
	case had && q.edns:
		binary.BigEndian.PutUint16(msg[l.opt.data-8:], maxPayload)
	case had:
		// We asked without: an OPT that cannot be cut off, or that changes the code, is beyond repair.
		if l.opt.end != l.end || l.opt.ttl>>24 != 0 {
			return nil
		}
		msg = msg[:l.opt.start]
		extra--
	case q.edns:
		msg = append(msg, q.opt(note)...)
		extra++
	}
	binary.BigEndian.PutUint16(msg[10:], extra)
	if len(msg) > limit {
		return nil
	}
	return msg
}

// truncated is the reply that says: ask again over TCP.
func (q *query) truncated() []byte {
	msg := q.encode(Answer{}, true, 0, minPayload)
	msg[2] |= flagTC >> 8
	return msg
}
