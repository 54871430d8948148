package dns

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// linkMessage is what rtnetlink(7) says of a link, with an attribute before its name.
func linkMessage(kind uint16, name string) []byte {
	attr := func(kind uint16, value []byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attr(unix.IFLA_MTU, []byte{1, 2, 3, 4})...)
	body = append(body, attr(unix.IFLA_IFNAME, append([]byte(name), 0))...)
	head := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	head = binary.NativeEndian.AppendUint16(head, kind)
	return append(append(head, make([]byte, unix.SizeofNlMsghdr-len(head))...), body...)
}

func TestD41NewsOfLinks(t *testing.T) {
	b := slices.Concat(linkMessage(unix.RTM_NEWLINK, "br0"), linkMessage(unix.RTM_DELLINK, "br1"), linkMessage(unix.RTM_NEWLINK, "ic-abcdefghij"))
	if got := linksIn(b); !slices.Equal(got, []string{"br0", "ic-abcdefghij"}) {
		t.Errorf("got %q", got)
	}
	for n := range b { // cut anywhere
		if got := linksIn(b[:n]); len(got) > 2 {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
}
