package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// dns is "ic-agent dns [NAME]".
func (c *cli) dns() *cobra.Command {
	var asJSON bool
	var from string
	cmd := &cobra.Command{
		Use:   "dns [NAME]",
		Short: "Show what is answered for a name, to whom, and why; without one, what the DNS server has and does",
		Long: `Show what is answered for a name, to whom, and why.

Without --from it is the host that asks. An instance is "web-1", or "shop/web-1" where several
stacks have one of that name.

Without a name: where the server listens, who is told what, which zones there are, which name servers
are asked for all else, and what has been asked so far.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			if len(args) == 0 && from != "" {
				return &exit{Usage, fmt.Errorf("--from says who asks: say for which name, too: ic-agent dns NAME --from %s", from)}
			}
			if len(args) == 0 {
				reply, err := c.client().Names(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(w, reply)
				}
				view{w, c.now(), colours(w)}.names(reply)
				return nil
			}
			reply, err := c.client().DNS(cmd.Context(), args[0], from)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(w, reply)
			}
			fmt.Fprintln(w, strings.TrimRight(reply.Text, "\n"))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&from, "from", "", "the instance or address that asks")
	return cmd
}

// names prints what the DNS server has and does.
func (v view) names(r api.NamesReply) {
	v.printf("%s below %s; an answer lives %d s", plan.Count(total(r.Zones), "name"), v.paint(bold, r.Domain), r.TTL)
	if r.Host != "" {
		v.printf("; this host finds them %s", r.Host)
	}
	v.printf("\n\n")
	t := table{palette: v.palette}
	t.head("LISTENER", "FOR", "STATE")
	for _, l := range r.Listeners {
		state := cell{"answers", green}
		if l.Error != "" {
			state = cell{l.Error, red}
		}
		t.row(plainCell(l.Addr), plainCell(l.For), state)
	}
	v.part(t, "no listeners: there is no stack with a network")
	t = table{palette: v.palette}
	t.head("WHO ASKS", "BRIDGE", "SUBNETS", "INSTANCES", "FOREIGN NAMES", "REPLIES")
	for _, who := range r.Views {
		clients := "-"
		if who.Bridge != "" {
			clients = strconv.Itoa(who.Clients)
		}
		t.row(plainCell(who.Name), plainCell(who.Bridge), plainCell(strings.Join(who.Subnets, " ")), plainCell(clients),
			plainCell(who.Foreign), plainCell(replies(who.Replies)))
	}
	if len(r.Listeners) > 0 {
		v.part(t, "")
	}
	t = table{palette: v.palette}
	t.head("ZONE", "NAMES", "INSTANCES", "ANSWERED")
	for _, z := range r.Zones {
		t.row(plainCell(z.Name), plainCell(strconv.Itoa(z.Names)), plainCell(strconv.Itoa(z.Instances)), plainCell(strconv.Itoa(z.Answered)))
	}
	v.part(t, "no zones: there is no stack")
	t = table{palette: v.palette}
	t.head("NAME SERVER", "STATE", "ASKED", "FAILED")
	for _, u := range r.Upstreams {
		state := cell{u.State, green}
		if u.State != "answers" {
			state.colour = red
		}
		t.row(plainCell(u.Addr), state, plainCell(number(u.Asked)), plainCell(number(u.Failed)))
	}
	v.part(t, "no name servers: this host has none in /etc/resolv.conf, so that foreign names are not found")
	v.counts(r)
}

// part prints a table with rows and an empty line behind it, or says why there is none.
func (v view) part(t table, none string) {
	if len(t.rows) == 1 {
		v.printf("%s\n\n", none)
		return
	}
	t.print(v.w, "")
	v.printf("\n")
}

// counts says what was asked, leaving out what never happened.
func (v view) counts(r api.NamesReply) {
	c := r.Counts
	v.printf("%s %s", number(c.Questions), "questions")
	if !r.Since.IsZero() {
		v.printf(" in %s", since(r.Since, v.now))
	}
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{c.Forwarded, "passed on"},
		{c.Hits, "answered from what others said before"},
		{c.Unanswered, "nobody could answer"},
		{c.Strangers, "of strangers"},
		{c.Overload, "refused for coming too fast"},
		{c.Blocked, "pointed into private networks"},
		{c.Dropped, "were no questions"},
	} {
		if part.n > 0 {
			v.printf(", %s %s", number(part.n), part.what)
		}
	}
	v.printf("; %s of others kept", plan.Count(c.Kept, "answer"))
	if c.Kept > 0 {
		v.printf(" (%d KiB)", (c.KeptBytes+1023)/1024)
	}
	v.printf("\n")
}

func total(zones []api.NamesZone) int {
	n := 0
	for _, z := range zones {
		n += z.Names
	}
	return n
}

// replies prints "12 NOERROR, 3 NXDOMAIN", the most frequent first; "-" for none.
func replies(codes map[string]uint64) string {
	var out []string
	for _, code := range slices.SortedFunc(maps.Keys(codes), func(a, b string) int {
		if codes[a] != codes[b] {
			return int(min(codes[b], 1<<62)) - int(min(codes[a], 1<<62))
		}
		return strings.Compare(a, b)
	}) {
		out = append(out, number(codes[code])+" "+code)
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ", ")
}

// number prints "1,234,567".
func number(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
