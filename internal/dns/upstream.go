package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"
)

// upstream is a resolver of the host. Its fields are what forwards have learned about it.
type upstream struct {
	addr netip.AddrPort
	// down is set when it left a question unanswered for patience, cleared by any answer; told is whether
	// that was logged.
	down, told atomic.Bool
	// folds is set when it does not keep the case of the question.
	folds atomic.Bool
	// probed is when it was last checked, in Unix nanoseconds.
	probed atomic.Int64
	// asked and failed count questions; one that was answered by another server first is neither.
	asked, failed atomic.Uint64
	// loops is whether what it is asked comes back to us, as token shows; see loop.go.
	loops atomic.Bool
	token string
	loop  loopState
}

var (
	// errFolded says that an answer came whose question differs from ours in case only.
	errFolded = errors.New("upstream does not keep the case of names")
	// errBare says that an answer came without the question it answers.
	errBare = errors.New("upstream answers without the question")
)

// want is what an upstream is asked; equal wants get one answer.
type want struct {
	question Question // the name in lower case
	flags    uint16   // RD, CD and AD
	edns, do bool
	full     bool // a truncated answer is worth a second question over TCP
}

// wanted returns what to ask an upstream to satisfy a query.
func (q *query) wanted(tcp bool) want {
	w := want{question: q.question, flags: q.flags & (flagRD | flagCD | flagAD), edns: q.edns, do: q.do}
	w.question.Name = miekg.CanonicalName(w.question.Name)
	w.full = tcp || q.edns
	return w
}

// message writes the question as a message with a random identity and, with mix, random case: what a forger
// has to guess beside the port (RFC 5452).
func (w want) message(mix bool) ([]byte, error) {
	msg := make([]byte, headerLen+255+4, headerLen+255+4+optLen)
	binary.BigEndian.PutUint16(msg, uint16(rand.Uint32()))
	binary.BigEndian.PutUint16(msg[2:], w.flags)
	binary.BigEndian.PutUint16(msg[4:], 1)
	end, err := miekg.PackDomainName(w.question.Name, msg, headerLen, nil, false)
	if err != nil {
		return nil, err
	}
	if mix {
		mixCase(msg[headerLen:end])
	}
	binary.BigEndian.PutUint16(msg[end:], w.question.Type)
	binary.BigEndian.PutUint16(msg[end+2:], w.question.Class)
	msg = msg[:end+4]
	if w.edns {
		q := query{edns: true, do: w.do}
		msg = append(msg, q.opt(Answer{})...)
		binary.BigEndian.PutUint16(msg[10:], 1)
	}
	return msg, nil
}

// mixCase flips letters of a name at random. Length bytes are below 64 and so no letters.
func mixCase(name []byte) {
	for i, c := range name {
		if c|0x20 >= 'a' && c|0x20 <= 'z' && rand.Uint32()&1 == 1 {
			name[i] = c ^ 0x20
		}
	}
}

// reply is what an upstream answered.
type reply struct {
	// whole is the answer; short is the truncated one that came before it over UDP, if any.
	whole, short []byte
	// stale is whether it was kept beyond its lifetime.
	stale bool
}

// rcode is the answer's response code; that there is no answer counts as a failure.
func (r reply) rcode() int {
	if len(r.whole) < headerLen {
		return miekg.RcodeServerFailure
	}
	return int(r.whole[3] & rcodeMask)
}

// ask sends the question over UDP, and over TCP when the answer is truncated and w.full. It ends with ctx.
func (u *upstream) ask(ctx context.Context, w want) (reply, error) {
	u.asked.Add(1)
	r, err := u.exchange(ctx, w)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		u.failed.Add(1)
	}
	return r, err
}

// doubtFor is how long a server may take to say over TCP whether it keeps the case of names.
const doubtFor = time.Second

func (u *upstream) exchange(ctx context.Context, w want) (reply, error) {
	answer, err := u.askUDP(ctx, w, !u.folds.Load())
	if errors.Is(err, errFolded) {
		// It does not keep the case, or somebody forged all but that: over TCP nobody can.
		whole, kept, doubt := u.doubt(ctx, w)
		u.folds.Store(!kept)
		if doubt == nil {
			return reply{whole: whole}, nil
		}
		answer, err = u.askUDP(ctx, w, false)
	}
	if err != nil {
		return reply{}, err
	}
	if answer[2]&(flagTC>>8) == 0 || !w.full {
		return reply{whole: answer}, nil
	}
	whole, _, err := u.askTCP(ctx, w, false)
	if err != nil {
		return reply{whole: answer, short: answer}, nil
	}
	return reply{whole: whole, short: answer}, nil
}

// doubt asks over TCP in random case.
func (u *upstream) doubt(ctx context.Context, w want) (answer []byte, kept bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, doubtFor)
	defer cancel()
	return u.askTCP(ctx, w, true)
}

// askUDP asks once, from a socket of its own: the kernel picks a random port and lets nobody else answer.
func (u *upstream) askUDP(ctx context.Context, w want, mix bool) ([]byte, error) {
	conn, msg, err := u.dial(ctx, "udp", w, mix)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_, err = conn.Write(msg)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		switch answers(msg, buf[:n]) {
		case same:
			return bytes.Clone(buf[:n]), nil
		case folded:
			if mix {
				return nil, errFolded
			}
			return bytes.Clone(buf[:n]), nil
		case bare:
			return nil, errBare
		}
	}
}

// askTCP asks once over a connection of its own. Kept is whether the answer has the case of the question.
func (u *upstream) askTCP(ctx context.Context, w want, mix bool) (answer []byte, kept bool, err error) {
	conn, msg, err := u.dial(ctx, "tcp", w, mix)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	_, err = conn.Write(framed(msg))
	if err != nil {
		return nil, false, err
	}
	var length [2]byte
	_, err = io.ReadFull(conn, length[:])
	if err != nil {
		return nil, false, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err = io.ReadFull(conn, buf)
	if err != nil {
		return nil, false, err
	}
	how := answers(msg, buf)
	if how < folded {
		return nil, false, errBare
	}
	return buf, how == same, nil
}

// dial opens a connection that is closed for reading and writing when ctx ends, and prepares the message.
func (u *upstream) dial(ctx context.Context, network string, w want, mix bool) (net.Conn, []byte, error) {
	msg, err := w.message(mix)
	if err != nil {
		return nil, nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, u.addr.String())
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return &boundConn{Conn: conn, stop: stop}, msg, nil
}

// boundConn is a connection whose deadline hangs on a context until it is closed.
type boundConn struct {
	net.Conn
	stop func() bool
}

func (c *boundConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// match is how far a message answers a question.
type match int

const (
	other  match = iota // it does not
	bare                // with a code and no question, as some do that do not understand it
	folded              // but for the case of the name
	same
)

// answers compares an answer with the question sent: identity, direction, and the question section.
func answers(question, answer []byte) match {
	if len(answer) < headerLen || !bytes.Equal(answer[:2], question[:2]) || answer[2]&(flagQR>>8) == 0 {
		return other
	}
	if binary.BigEndian.Uint16(answer[4:]) == 0 && answer[3]&rcodeMask != 0 {
		return bare
	}
	end, _ := nameEnd(question, headerLen)
	asked := question[headerLen : end+4]
	if binary.BigEndian.Uint16(answer[4:]) != 1 || len(answer) < headerLen+len(asked) {
		return other
	}
	got := answer[headerLen : headerLen+len(asked)]
	switch {
	case bytes.Equal(got, asked):
		return same
	case equalFold(got[:end-headerLen], asked[:end-headerLen]) && bytes.Equal(got[end-headerLen:], asked[end-headerLen:]):
		return folded
	}
	return other
}

// equalFold compares names of one length without regard to the case of ASCII letters (RFC 4343). bytes.EqualFold would
// fold Unicode too.
func equalFold(a, b []byte) bool {
	lower := func(c byte) byte {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// framed puts the length before a message, as TCP has it (RFC 1035 4.2.2).
func framed(msg []byte) []byte {
	b := make([]byte, 2, 2+len(msg))
	binary.BigEndian.PutUint16(b, uint16(len(msg)))
	return append(b, msg...)
}
