package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// maxStatus is the length of the STATUS line.
	maxStatus = 200
	// statusEvery bounds how often the line changes; it is looked at when something changed that it tells of, and with
	// each sign of life, which without a watchdog is every lookEvery.
	statusEvery = 200 * time.Millisecond
	lookEvery   = time.Minute
	// lateScan is how old the watcher's last turn, silentPass how long without progress a pass may be before
	// the watchdog is left to act. The longest single call is a pull of 30 minutes.
	lateScan   = time.Minute
	silentPass = 35 * time.Minute
)

// notify tells systemd that we are ready, how we are, and that we live (sd_notify(3)).
func (a *Agent) notify(ctx context.Context, ready <-chan struct{}) error {
	send := a.conf.Notify
	if send == nil {
		send = func(state string) { _, _ = daemon.SdNotify(false, state) }
	}

	select {
	case <-ctx.Done():
		return nil
	case <-ready:
	}

	status := a.statusLine()
	send("READY=1\nSTATUS=" + status)
	a.log.InfoContext(ctx, "ready", "status", status)

	every := lookEvery
	if a.conf.Watchdog > 0 {
		every = min(every, a.conf.Watchdog/4)
	}

	ticker := time.NewTicker(every)
	defer ticker.Stop()

	for {
		alive := false
		select {
		case <-ctx.Done():
			send("STOPPING=1\nSTATUS=stopping; services keep running")
			return nil
		case <-a.shown:
			wait(ctx, statusEvery)
		case <-ticker.C:
			alive = a.conf.Watchdog > 0
		}

		if ctx.Err() != nil {
			continue
		}

		a.keepSockets(ctx)
		a.widen(ctx)
		next := a.statusLine()
		if next != status {
			status = next
			send("STATUS=" + status)
		}

		if alive {
			a.feed(ctx, time.Now(), send)
		}
	}
}

// feed sends a sign of life when every part has shown one. Incus being away, or a stack being ill, is none of
// the watchdog's business: a restart would mend neither.
func (a *Agent) feed(ctx context.Context, now time.Time, send func(string)) {
	reason := a.stuck(ctx, now)
	if reason != "" {
		a.log.ErrorContext(ctx, "no sign of life: systemd will restart the agent", "reason", reason)
		return
	}

	send("WATCHDOG=1")
}

// stuck names the part that does not move, "" when all do.
func (a *Agent) stuck(ctx context.Context, now time.Time) string {
	if now.Sub(a.watch.Beat()) > lateScan {
		return "the directory watch has not turned for " + now.Sub(a.watch.Beat()).String()
	}

	for _, l := range a.stacks.all() {
		silent := l.Silent(now)
		if silent > silentPass {
			return "the stack " + l.View().Stack + " has made no progress for " + silent.String()
		}
	}

	_, err := a.db.Stacks()
	if err != nil {
		return "the ledger cannot be read: " + err.Error()
	}

	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	err = a.dns.Probe(ctx)
	if err != nil {
		return "the DNS server does not answer itself: " + err.Error()
	}

	return ""
}

// statusLine is what "systemctl status ic-agent" shows: how many stacks, how many are well, what is wrong.
func (a *Agent) statusLine() string {
	views, skipped := a.stacks.views()
	count := map[apply.State]int{}
	var wrong []string
	for _, v := range views {
		count[v.State]++
		if len(v.Ledger.Conditions) > 0 && v.State != apply.Waiting {
			wrong = append(wrong, v.Stack+": "+v.Ledger.Conditions[0].Text)
		}
	}

	var parts []string
	for _, s := range []apply.State{apply.InSync, apply.Applying, apply.Scheduled, apply.Held, apply.Removed, apply.Parked, apply.Orphaned, apply.Released, apply.Waiting, apply.Blocked, apply.Invalid} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}

	if len(skipped) > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", len(skipped)))
	}

	line := plan.Count(len(views)+len(skipped), "stack")
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}

	line += "; " + a.incusLine() + "; " + a.dnsLine()
	problems := len(a.snap.get().Problems)
	if problems > 0 {
		line += "; " + plan.Count(problems, "problem") + " in the directories"
	}

	if len(wrong) > 0 {
		line += " — " + strings.Join(wrong, "; ")
	}

	return clip(strings.Join(strings.Fields(line), " "), maxStatus)
}

func (a *Agent) incusLine() string {
	version, asked, err := a.server.get()
	switch {
	case !asked:
		return "Incus not asked yet"
	case err != nil:
		return "Incus away"
	}

	return "Incus " + version
}

func (a *Agent) dnsLine() string {
	listeners := a.dns.Status().Listeners
	open := 0
	for _, l := range listeners {
		if l.Err == nil {
			open++
		}
	}

	if open < len(listeners) {
		return fmt.Sprintf("DNS %d of %d listeners", open, len(listeners))
	}

	return "DNS " + plan.Count(open, "listener")
}

// clip shortens s to at most n bytes, between runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}

	const dots = "…"
	n -= len(dots)
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}

	return s[:n] + dots
}

// WatchdogTime is what systemd asks for in this process's environment, 0 when nothing.
func WatchdogTime() time.Duration {
	if os.Getenv("WATCHDOG_USEC") == "" {
		return 0
	}

	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}

	return d
}

// notifyReload tells systemd that a reload begins or has ended: with the time it began, which Type=notify-reload
// wants to see (sd_notify(3)).
func (a *Agent) notifyReload(begin bool) {
	send := a.conf.Notify
	if send == nil {
		send = func(state string) { _, _ = daemon.SdNotify(false, state) }
	}

	if !begin {
		send("READY=1\nSTATUS=" + a.statusLine())
		return
	}

	send("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec() + "STATUS=looking at the directories")
}
