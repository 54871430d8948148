package dns

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	z := Build("incus", 1, testNets, append(offering(), testRecs[3:]...))
	for _, tc := range []struct{ name, from, want string }{
		{"web.shop.incus", "10.1.0.99", `web.shop.incus., asked by 10.1.0.99 (sees shop-front): NOERROR
  A 10.1.0.11
  A 10.1.0.12
  AAAA fd00:1::12
  web-1 ready for 1m0s: answered with 10.1.0.11
  web-2 ready for 1m0s: answered with 10.1.0.12 fd00:1::12
  web-3 unhealthy for 1m0s (exit status 1): not answered, because others are ready
  web-4 draining for 1m0s: not answered, because it is about to stop
  web-5 stopped for 1m0s: not answered, because it does not run
`},
		{"db", "shop/web-1", "db., asked by web-1 of shop (sees shop-front): NXDOMAIN\n" +
			"  a name without its project is that of the asker's own; db.shop.incus is on networks that this one is not on\n"},
		{"db.shop.incus.", "shop/web-1", "db.shop.incus., asked by web-1 of shop (sees shop-front): NXDOMAIN\n  the name exists on other networks only\n"},
		{"db.shop.incus", "", "db.shop.incus., asked by host (sees every network): NOERROR\n  A 10.2.0.30\n  db-1 ready: answered with 10.2.0.30\n"},
		{"job.shop.incus", "10.1.0.99", "job.shop.incus., asked by 10.1.0.99 (sees shop-front): no data\n" +
			"  the name exists, and nothing under it can be answered\n  declared, no instance yet\n"},
		{"_http._tcp.web-1", "web-5", `_http._tcp.web-1., asked by web-5 of shop (sees shop-front): NOERROR
  SRV 0 0 80 web-1.shop.incus.
  web-1 ready for 1m0s: answered with 10.1.0.11
`},
		{"example.com", "app-1", "example.com., asked by app-1 of blog (sees blog-data, edge): forwarded\n" +
			"  the name is not ours; the host's name servers are asked\n"},
		{"example.com", "store-1", "example.com., asked by store-1 of blog (sees blog-data): REFUSED\n  network data of blog is internal\n"},
		{"web", "192.0.2.1", "web., asked by 192.0.2.1 (sees none): REFUSED\n  192.0.2.1 is on no managed network\n"},
		{"web", "10.1.0.1", "web., asked by 10.1.0.1 (sees every network): NXDOMAIN\n" +
			"  a name without its project is that of the asker's own; ask for web.blog.incus or web.shop.incus\n"},
	} {
		e, err := z.Explain(tc.name, tc.from, now)
		if err != nil {
			t.Errorf("%s from %s: %v", tc.name, tc.from, err)
			continue
		}
		if diff := cmp.Diff(tc.want, e.String()); diff != "" {
			t.Errorf("%s from %s: %s", tc.name, tc.from, diff)
		}
	}
	for _, from := range []string{"nobody", "blog/db-1", "web-1"} {
		_, err := z.Explain("web", from, now)
		if !errors.Is(err, ErrNobody) {
			t.Errorf("from %s: %v", from, err)
		}
	}
}
