package dns

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"

	miekg "github.com/miekg/dns"
)

// hotSlots is how many packed answers a zone keeps, 8 bytes each when empty. Two that meet in a slot push each
// other out and cost a packing each time, nothing else.
const hotSlots = 4096

// hot keeps packed answers of the published zone, so that a question asked again is answered without reading more than its
// bytes, and without allocating. Everybody may use it at once.
type hot struct {
	seed  maphash.Seed
	slots [hotSlots]atomic.Pointer[packed]
}

// packed is an answer ready to be sent: what follows the question, and the key it belongs to.
type packed struct {
	edition uint64 // of the zone, see published
	shape   *shape
	net     *network
	inside  bool
	typ     uint16
	name    []byte // as in a message, in lower case

	flags   uint16 // QR, AA, RA
	ancount uint16
	nscount uint16
	body    []byte
	size    int // of each of the ancount records, when they are turned; 0 when not
	near    int
	turn    atomic.Uint32
}

func newHot() *hot { return &hot{seed: maphash.MakeSeed()} }

// hotQuery is a question as far as the fast path reads it.
type hotQuery struct {
	name [256]byte // in lower case
	len  int       // of the name, its last zero included
	typ  uint16
	edns bool
	do   bool
	room int
}

// read takes a message apart when it is of the plain form that stub resolvers send: one question of class IN,
// no more than an OPT without options behind it. All else is left to readQuery.
func (q *hotQuery) read(msg []byte) bool {
	if len(msg) < headerLen+5 || msg[2]&((flagQR|opcodeMask)>>8) != 0 ||
		binary.BigEndian.Uint32(msg[4:]) != 1<<16 || binary.BigEndian.Uint16(msg[8:]) != 0 {
		return false
	}
	off := headerLen
	for {
		// The length read is inside the message: behind every label there is room for a zero and four bytes.
		c := int(msg[off])
		if c == 0 {
			break
		}
		if c > 63 || off+1+c+5 > len(msg) || off+1+c-headerLen > 254 {
			return false
		}
		q.name[off-headerLen] = byte(c)
		for i := off + 1; i <= off+c; i++ {
			b := msg[i]
			if b >= 'A' && b <= 'Z' {
				b += 'a' - 'A'
			}
			q.name[i-headerLen] = b
		}
		off += 1 + c
	}
	q.name[off-headerLen] = 0
	off++
	q.len = off - headerLen
	q.typ = binary.BigEndian.Uint16(msg[off:])
	if binary.BigEndian.Uint16(msg[off+2:]) != miekg.ClassINET {
		return false
	}
	return q.readOPT(msg[off+4:], binary.BigEndian.Uint16(msg[10:]))
}

// readOPT reads what follows the question: nothing, or an OPT record of version 0 without options.
func (q *hotQuery) readOPT(rest []byte, extra uint16) bool {
	q.edns, q.do, q.room = false, false, minPayload
	if extra == 0 {
		return len(rest) == 0
	}
	if extra != 1 || len(rest) != optLen || rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != miekg.TypeOPT ||
		rest[6] != 0 || binary.BigEndian.Uint16(rest[9:]) != 0 {
		return false
	}
	q.edns, q.do = true, rest[7]&0x80 != 0
	q.room = min(max(int(binary.BigEndian.Uint16(rest[3:])), minPayload), maxPayload)
	return true
}

// slot returns where the answer to a question of a view lies.
func (h *hot) slot(name []byte, typ uint16) *atomic.Pointer[packed] {
	return &h.slots[(maphash.Bytes(h.seed, name)^uint64(typ)*0x9e3779b97f4a7c15)%hotSlots]
}

// find returns the packed answer of an edition; nil when there is none.
func (h *hot) find(edition uint64, v *View, q *hotQuery) *packed {
	p := h.slot(q.name[:q.len], q.typ).Load()
	if p == nil || p.edition != edition || p.typ != q.typ || !p.fits(v) || string(p.name) != string(q.name[:q.len]) {
		return nil
	}
	return p
}

// fits tells whether the view is told the same.
func (p *packed) fits(v *View) bool {
	return p.shape == v.shape && p.net == v.net && p.inside == (v.inside != "")
}

// write writes the reply into out and returns its length; 0 when it does not fit.
func (p *packed) write(out, msg []byte, q *hotQuery) int {
	asked := q.len + 4
	n := headerLen + asked + len(p.body)
	end := n
	if q.edns {
		end += optLen
	}
	if end > q.room {
		return 0
	}
	copy(out, msg[:headerLen+asked])
	flags := p.flags | binary.BigEndian.Uint16(msg[2:])&(flagRD|flagCD)
	binary.BigEndian.PutUint16(out[2:], flags)
	binary.BigEndian.PutUint16(out[6:], p.ancount)
	binary.BigEndian.PutUint16(out[8:], p.nscount)
	binary.BigEndian.PutUint16(out[10:], 0)
	body := out[headerLen+asked : n]
	if p.size == 0 {
		copy(body, p.body)
	} else {
		turn := int(p.turn.Add(1))
		split := p.near * p.size
		turnInto(body[:split], p.body[:split], turn, p.size)
		turnInto(body[split:], p.body[split:], turn, p.size)
	}
	if q.edns {
		out[11] = 1
		opt := out[n:end]
		clear(opt)
		binary.BigEndian.PutUint16(opt[1:], miekg.TypeOPT)
		binary.BigEndian.PutUint16(opt[3:], maxPayload)
		if q.do {
			opt[7] = 0x80
		}
	}
	return end
}

// turnInto copies records of one size, turned by so many places.
func turnInto(dst, src []byte, turn, size int) {
	if len(src) == 0 {
		return
	}
	at := turn * size % len(src)
	n := copy(dst, src[at:])
	copy(dst[n:], src[:at])
}

// keep packs the answer to a question for the next time it is asked, when it is one that does not change while
// the zone stays: an address, or the word that there is none.
func (h *hot) keep(edition uint64, v *View, q *query, a *Answer) {
	switch q.question.Type {
	case miekg.TypeA, miekg.TypeAAAA, miekg.TypeHTTPS:
	default:
		return
	}
	if !a.Authoritative || a.Rcode != miekg.RcodeSuccess || len(a.Extra) > 0 {
		return
	}
	plain := query{asked: q.asked, question: q.question}
	msg := plain.encode(*a, v.Forwards(), 0, maxPayload)
	flags := binary.BigEndian.Uint16(msg[2:])
	if flags&flagTC != 0 {
		return
	}
	p := &packed{
		edition: edition,
		shape:   v.shape, net: v.net, inside: v.inside != "", typ: q.question.Type, name: make([]byte, len(q.asked)-4),
		flags: flags, ancount: binary.BigEndian.Uint16(msg[6:]), nscount: binary.BigEndian.Uint16(msg[8:]),
		body: msg[headerLen+len(q.asked):], near: a.Near,
	}
	for i, b := range q.asked[:len(q.asked)-4] {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		p.name[i] = b
	}
	if p.ancount > 1 {
		p.size = len(p.body) / int(p.ancount)
	}
	h.slot(p.name, p.typ).Store(p)
}
