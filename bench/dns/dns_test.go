//go:build bench

// Package dns measures the DNS server beside those that Debian ships and a raw UDP echo, all in one run on one
// machine, over the loopback. It prints ratios, asserts nothing about seconds, and prints no table from a run in
// which a single question was lost. It needs dnsperf, dnsmasq and unbound:
//
//	tools/need dnsperf:dnsperf dnsmasq:dnsmasq-base unbound:unbound
//	go test -tags bench -count=1 -v ./bench/dns
package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ours "github.com/incus-compose/ic-agent/internal/dns"
)

const (
	client  = "127.53.1.99"
	known   = "web.shop.incus"
	rounds  = 3
	seconds = 5
	paced   = 2000 // questions a second when latency is measured
	role    = "IC_DNS_BENCH"
)

// TestMain is also the servers, each in a process of its own so that its processor time can be read.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "echo":
		err = echo(os.Args[1])
	case "ic-agent", "churn":
		err = agent(ctx, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo sends back what it gets, marked as an answer: no server can do less.
func echo(at string) error {
	addr, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, src, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		buf[2] |= 0x80
		_, err = conn.WriteToUDPAddrPort(buf[:n], src)
		if err != nil {
			return err
		}
	}
}

// agent is our server with a fleet in its zone and an upstream that never answers.
func agent(ctx context.Context, at string) error {
	addr := netip.MustParseAddrPort(at)
	dead := netip.MustParseAddrPort("127.53.250.1:53")
	s := ours.New(ours.Options{Upstreams: []netip.AddrPort{dead}, Readers: runtime.GOMAXPROCS(0)})
	nets := []ours.Network{{Name: "front", Key: "front", Project: "shop", Prefix: netip.MustParsePrefix("127.53.0.0/16"), Gateway: addr.Addr()}}
	recs := []ours.Record{{
		Project: "shop", Service: "web", Instance: "web-1", Up: true,
		On: []ours.Interface{{Network: "front", Addr: netip.MustParseAddr("127.53.2.1")}},
	}}
	groups := []*ours.Group{{Name: "shop", Records: recs}}
	for i := range stacks * inStack {
		recs = append(recs, ours.Record{
			Project: "shop", Service: fmt.Sprint("s", i/10), Instance: fmt.Sprint("s", i/10, "-", i%10), Up: true,
			On: []ours.Interface{{Network: "front", Addr: netip.AddrFrom4([4]byte{127, 53, byte(3 + i/250), byte(1 + i%250)})}},
		})
	}
	for i := range stacks {
		groups = append(groups, &ours.Group{Name: fmt.Sprint(i), Records: recs[1+i*inStack : 1+(i+1)*inStack]})
	}
	z := ours.Build("incus", 1, nets, nil).Next(2, nets, groups...)
	s.Publish(z)
	if os.Getenv(role) == "churn" {
		go churn(ctx, s, z, nets, groups)
	}
	s.Listen(ctx, []netip.AddrPort{addr})
	if p := s.Status().Problems(); p != nil {
		return fmt.Errorf("%s", strings.Join(p, "; "))
	}
	return s.Run(ctx)
}

// The fleet of agent: 5,000 instances.
const stacks, inStack = 50, 100

// churn has instances come and go, 200 a second, each change published at once: its stack is made anew, the others are
// what they were, as in the agent.
func churn(ctx context.Context, s *ours.Server, z *ours.Zone, nets []ours.Network, groups []*ours.Group) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for serial := uint32(3); ; serial++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		i, j := 1+rand.IntN(stacks), rand.IntN(inStack)
		changed := &ours.Group{Name: groups[i].Name, Records: slices.Clone(groups[i].Records)}
		changed.Records[j].Up = !changed.Records[j].Up
		groups[i] = changed
		z = z.Next(serial, nets, groups...)
		s.Publish(z)
	}
}

// peer is a server under measurement.
type peer struct {
	name string
	at   netip.AddrPort
	cmd  *exec.Cmd
	rate, cpu, p50, p99,
	rss []float64
}

func start(t *testing.T, name, at string, args ...string) *peer {
	t.Helper()
	p := &peer{name: name, at: netip.MustParseAddrPort(at)}
	if len(args) == 0 {
		p.cmd = exec.CommandContext(t.Context(), os.Args[0], at)
		p.cmd.Env = append(os.Environ(), role+"="+name, "GOMAXPROCS=1")
	} else {
		p.cmd = exec.CommandContext(t.Context(), args[0], args[1:]...)
	}
	p.cmd.Stderr = os.Stderr
	err := p.cmd.Start()
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	conn := dial(t, p.at)
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := ask(conn, question(known), 200*time.Millisecond)
		if err == nil {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}

func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(client)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// question is a message that asks for an address.
func question(name string) []byte {
	msg := []byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(msg, uint16(rand.Uint32()))
	for label := range strings.SplitSeq(name, ".") {
		msg = append(append(msg, byte(len(label))), label...)
	}
	return append(msg, 0, 0, 1, 0, 1)
}

// ask asks once and returns how long the answer took.
func ask(conn *net.UDPConn, msg []byte, patience time.Duration) (time.Duration, error) {
	begun := time.Now()
	err := conn.SetDeadline(begun.Add(patience))
	if err != nil {
		return 0, err
	}
	_, err = conn.Write(msg)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, err
		}
		if n > 4 && buf[0] == msg[0] && buf[1] == msg[1] {
			if buf[3]&15 != 0 {
				return 0, fmt.Errorf("rcode %d", buf[3]&15)
			}
			return time.Since(begun), nil
		}
	}
}

// used is the processor time of the server so far, and its resident memory.
func (p *peer) used(t *testing.T) (cpu time.Duration, rss float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%s is gone: %v", p.name, err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return time.Duration(number(f[11])+number(f[12])) * 10 * time.Millisecond, number(f[21]) * float64(os.Getpagesize()) / (1 << 20)
}

var (
	completed = regexp.MustCompile(`Queries completed:\s+(\d+)`)
	sent      = regexp.MustCompile(`Queries sent:\s+(\d+)`)
	perSecond = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)
	noError   = regexp.MustCompile(`Response codes:\s+NOERROR (\d+)`)
)

// load has dnsperf ask as fast as it can; false when a question was lost or answered wrongly.
func (p *peer) load(t *testing.T, data string) bool {
	t.Helper()
	before, _ := p.used(t)
	out, err := exec.CommandContext(t.Context(), "dnsperf", "-s", p.at.Addr().String(), "-p", fmt.Sprint(p.at.Port()),
		"-a", client, "-d", data, "-c", "16", "-T", "1", "-q", "100", "-l", fmt.Sprint(seconds)).CombinedOutput()
	if err != nil {
		t.Fatalf("dnsperf: %v\n%s", err, out)
	}
	after, rss := p.used(t)
	field := func(re *regexp.Regexp) float64 {
		m := re.FindSubmatch(out)
		if m == nil {
			t.Fatalf("dnsperf said:\n%s", out)
		}
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := field(completed)
	p.rate = append(p.rate, field(perSecond))
	p.cpu = append(p.cpu, float64((after-before).Microseconds())/n)
	p.rss = append(p.rss, rss)
	return n == field(sent) && n == field(noError)
}

// latency asks at a fixed pace, one question at a time.
func (p *peer) latency(t *testing.T) bool {
	t.Helper()
	conn := dial(t, p.at)
	msg := question(known)
	var took []time.Duration
	next := time.Now()
	for range seconds * paced {
		for time.Now().Before(next) {
			runtime.Gosched()
		}
		next = next.Add(time.Second / paced)
		d, err := ask(conn, msg, time.Second)
		if err != nil {
			t.Logf("%s: %v", p.name, err)
			return false
		}
		took = append(took, d)
	}
	slices.Sort(took)
	p.p50 = append(p.p50, float64(took[len(took)/2].Nanoseconds())/1e3)
	p.p99 = append(p.p99, float64(took[len(took)*99/100].Nanoseconds())/1e3)
	return true
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func TestD44Table(t *testing.T) {
	dir := t.TempDir()
	write := func(file, text string) string {
		path := filepath.Join(dir, file)
		err := os.WriteFile(path, []byte(text), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	data := write("queries", known+" A\n")
	hosts := write("hosts", "127.53.2.1 "+known+"\n")
	conf := write("unbound.conf", `server:
  interface: 127.53.1.4@5303
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  do-daemonize: no
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  module-config: "iterator"
  local-zone: "shop.incus." static
  local-data: "`+known+`. 5 IN A 127.53.2.1"
remote-control:
  control-enable: no
`)
	peers := []*peer{
		start(t, "echo", "127.53.1.1:5300"),
		start(t, "ic-agent", "127.53.1.2:5301"),
		start(t, "dnsmasq", "127.53.1.3:5302", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=5302",
			"--listen-address=127.53.1.3", "--bind-interfaces", "--no-resolv", "--no-hosts", "--addn-hosts="+hosts,
			"--local-ttl=5", "--user=root", "--pid-file="),
		start(t, "unbound", "127.53.1.4:5303", "unbound", "-d", "-c", conf),
	}
	whole := true
	for range rounds {
		for _, p := range peers {
			whole = p.load(t, data) && p.latency(t) && whole
		}
	}
	if !whole {
		t.Fatal("questions were lost or answered wrongly: a run with losses is no measurement, so there is no table")
	}
	base := peers[0]
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d rounds of %d s in turn, medians; load: dnsperf -c16 -T1 -q100; latency: one client at %d q/s; nothing lost\n",
		rounds, seconds, paced)
	fmt.Fprintf(&b, "%-9s %9s %6s | %8s %6s | %7s %7s %6s | %7s\n", "server", "q/s", "/echo", "us/query", "/echo", "p50 us", "p99 us", "/echo", "RSS MiB")
	for _, p := range peers {
		fmt.Fprintf(&b, "%-9s %9.0f %6.2f | %8.2f %6.2f | %7.1f %7.1f %6.2f | %7.1f\n", p.name,
			median(p.rate), median(p.rate)/median(base.rate), median(p.cpu), median(p.cpu)/median(base.cpu),
			median(p.p50), median(p.p99), median(p.p99)/median(base.p99), median(p.rss))
	}
	t.Log(b.String())
}

func TestD45HardTimes(t *testing.T) {
	data := filepath.Join(t.TempDir(), "queries")
	err := os.WriteFile(data, []byte(known+" A\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	alone, flooded := start(t, "ic-agent", "127.53.1.2:5301"), start(t, "ic-agent", "127.53.1.3:5302")
	idle, busy := start(t, "ic-agent", "127.53.1.4:5303"), start(t, "churn", "127.53.1.5:5304")
	_, before := flooded.used(t)

	// Connections of 60 clients that never say anything.
	for i := range 3000 {
		from := &net.TCPAddr{IP: net.IPv4(127, 53, 200, byte(1+i%60))}
		c, err := net.DialTCP("tcp", from, net.TCPAddrFromAddrPort(idle.at))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	whole, asked := true, 0
	for range rounds {
		whole = alone.load(t, data) && idle.load(t, data) && whole
		whole = alone.latency(t) && busy.latency(t) && whole
		// Names nobody has ever asked, of an upstream that is dead.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- flood(ctx, flooded.at) }()
		whole = flooded.latency(t) && whole
		cancel()
		asked += <-done
	}
	_, after := flooded.used(t)
	if !whole {
		t.Fatal("questions were lost or answered wrongly: a run with losses is no measurement, so there is no table")
	}
	rate, p99 := median(alone.rate), median(alone.p99)
	t.Logf("\n%-46s %8.0f q/s\n%-46s %8.0f q/s, %.2f of it\n%-46s %8.1f us p99\n%-46s %8.1f us p99, %.2f of it\n"+
		"%-46s %8.1f us p99, %.2f of it\n%-46s %8.1f MiB, then %.1f\n",
		"alone", rate, "after 3000 clients connected and said nothing", median(idle.rate), median(idle.rate)/rate, "alone", p99,
		"while 200 of 5,000 instances change a second", median(busy.p99), median(busy.p99)/p99,
		fmt.Sprintf("in a flood of %d foreign names", asked), median(flooded.p99), median(flooded.p99)/p99,
		"memory before and after the flood", before, after)
}

// flood asks 5,000 random names a second, and does not wait for what becomes of them.
func flood(ctx context.Context, to netip.AddrPort) int {
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 53, 200, 99)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0
	}
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
		}
		for range 5 {
			_, err := conn.Write(question(fmt.Sprintf("x%d.example.com", rand.Uint64())))
			if err != nil {
				return n
			}
			n++
		}
	}
}
