package agent

import (
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// aTable is that of a host with a disk and shares, seen from the agent's sandbox.
const aTable = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /proc rw shared:2 - proc proc rw
40 22 8:1 / /mnt/disk\040one rw,relatime shared:3 master:1 - xfs /dev/sdb1 rw
41 22 0:50 / /srv/media rw,relatime shared:4 - nfs4 nas.example.test:/export/media rw,vers=4.2
42 22 0:51 / /home rw,relatime - nfs4 nas.example.test:/export/home rw
43 22 0:52 / /srv/win rw,relatime - cifs //nas/share rw
44 22 254:0 /var/lib/ic-agent /var/lib/ic-agent rw - ext4 /dev/vda rw
45 22 0:53 / /var/lib/incus/devices rw - tmpfs tmpfs rw
not a line
`

func TestMountsBelowADirectoryAreSeen(t *testing.T) {
	table := mountPoints(aTable)
	for dir, want := range map[string]bool{"/": true, "/mnt": true, "/mnt/disk one": false, "/srv": true, "/srv/media": false, "/var/lib": false, "/mn": false} {
		if got := branches(table, dir); got != want {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
}

func TestSharesAreFoundWhereTheHostHasThem(t *testing.T) {
	table := mountPoints(aTable)
	for share, want := range map[plan.Share]string{
		{Type: "nfs", Device: "nas.example.test:/export/media"}:                      "/srv/media",
		{Type: "nfs4", Device: "nas.example.test:/export/media", Options: "rw,soft"}: "/srv/media",
		{Type: "cifs", Device: "//nas/share"}:                                        "/srv/win",
		{Type: "nfs", Device: "nas.example.test:/export"}:                            "",
		{Type: "cifs", Device: "nas.example.test:/export/media"}:                     "",
		{Type: "nfs", Device: "nas.example.test:/export/home"}:                       "",
	} {
		if got := shareAt(table, share); got != want {
			t.Errorf("%v: %q, want %q", share, got, want)
		}
	}
}
