package health

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Recognise returns the probe from the host that judges as a command does, nil where it knows none. It knows curl,
// wget, nc, pg_isready and "redis-cli ping" that ask the instance itself, with the wrappers that people put around
// them. env are the variables of the command.
//
// Such a probe may fail where the command passes, as with a service that listens on the instance's loopback only. So
// its pass counts, and its failure has to be confirmed by the command.
func Recognise(test []string, env func(string) (string, bool)) *Probe {
	if len(test) < 2 {
		return nil
	}

	if test[0] == "CMD-SHELL" {
		return shellLine(strings.Join(test[1:], " "), env)
	}

	return command(test[1:], env)
}

// shellLine recognises a line for a shell.
func shellLine(line string, env func(string) (string, bool)) *Probe {
	words, ok := shellWords(line, env)
	if !ok {
		return nil
	}

	words, ok = unwrap(words)
	if !ok {
		return nil
	}

	p := compared(words, env)
	if p != nil {
		return p
	}

	left, pattern, piped := piped(words)
	argv, plain := texts(left)
	if !plain {
		return nil
	}

	p = command(argv, env)
	switch {
	case p == nil || !piped:
		return p
	case p.Type == "redis":
		p.Body = pattern
	case p.Type == "http" && p.Method != "HEAD" && !strings.Contains(strings.Join(argv, " "), "/dev/null"):
		p.Body = pattern // and the exit code is grep's
	default:
		return nil
	}

	return p
}

// unwrap takes off what does not change whether a line passes: an exec before it, output thrown away, and an
// "|| exit 1" or "&& exit 0" behind it.
func unwrap(words []word) ([]word, bool) {
	kept, ok := withoutOutput(words)
	for ok {
		n := slices.IndexFunc(kept, func(w word) bool { return w.op && (w.text == "||" || w.text == "&&") })
		if n < 0 {
			break
		}

		ok = harmless(kept[n].text, kept[n+1:])
		kept = kept[:n]
	}

	if len(kept) > 1 && kept[0].text == "exec" {
		kept = kept[1:]
	}

	return kept, ok && len(kept) > 0
}

// withoutOutput takes off where output goes, as long as that is nowhere or the other output.
func withoutOutput(words []word) ([]word, bool) {
	var kept []word
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w.op && (strings.HasSuffix(w.text, ">&1") || strings.HasSuffix(w.text, ">&2")):
		case w.op && strings.HasSuffix(w.text, ">"):
			if i+1 == len(words) || words[i+1].text != "/dev/null" {
				return nil, false
			}

			i++
		default:
			kept = append(kept, w)
		}
	}

	return kept, true
}

// harmless tells whether what follows a || still fails, or what follows a && still passes.
func harmless(op string, tail []word) bool {
	argv, ok := texts(tail)
	if !ok {
		return false
	}

	end := strings.Join(argv, " ")
	if op == "&&" {
		return end == "true" || end == "exit 0"
	}

	code, exits := strings.CutPrefix(end, "exit ")
	value, err := strconv.Atoi(code)

	return end == "false" || exits && err == nil && value > 0 && value < 126
}

// texts returns words without operators between them.
func texts(words []word) ([]string, bool) {
	var list []string
	for _, w := range words {
		if w.op {
			return nil, false
		}

		list = append(list, w.text)
	}

	return list, true
}

// piped takes a "| grep -q TEXT" off a line. TEXT is one that means itself.
func piped(words []word) (left []word, pattern string, found bool) {
	at := slices.IndexFunc(words, func(w word) bool { return w.op && w.text == "|" })
	if at < 0 {
		return words, "", false
	}

	argv, ok := texts(words[at+1:])
	if !ok || len(argv) < 2 || path.Base(argv[0]) != "grep" {
		return words, "", false
	}

	pattern = argv[len(argv)-1]
	for _, o := range argv[1 : len(argv)-1] {
		if !slices.Contains([]string{"-q", "-s", "-F", "-qF", "-Fq"}, o) {
			return words, "", false
		}
	}

	if pattern == "" || strings.ContainsAny(pattern, `.*[]^$\+?(){}|-`) && !strings.Contains(strings.Join(argv, " "), "F") {
		return words, "", false
	}

	return words[:at], pattern, true
}

// compared recognises test "$(redis-cli ping)" = PONG.
func compared(words []word, env func(string) (string, bool)) *Probe {
	argv, ok := texts(words)
	if !ok || len(argv) < 4 {
		return nil
	}

	if argv[0] == "[" && argv[len(argv)-1] == "]" {
		argv = argv[:len(argv)-1]
	} else if argv[0] != "test" {
		return nil
	}

	if len(argv) != 4 || argv[2] != "=" && argv[2] != "==" {
		return nil
	}

	for _, pair := range [][2]string{{argv[1], argv[3]}, {argv[3], argv[1]}} {
		line, is := strings.CutPrefix(pair[0], "$(")
		if !is || pair[1] != "PONG" {
			continue
		}

		p := shellLine(strings.TrimSuffix(line, ")"), env)
		if p != nil && p.Type == "redis" {
			p.Body = "PONG"
			return p
		}
	}

	return nil
}

// command recognises a program and its words.
func command(argv []string, env func(string) (string, bool)) *Probe {
	if len(argv) == 0 {
		return nil
	}

	if len(argv) == 3 && argv[1] == "-c" && slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(argv[0])) {
		return shellLine(argv[2], env)
	}

	o := options{args: argv[1:]}
	var p *Probe
	switch path.Base(argv[0]) {
	case "curl":
		p = o.curl()
	case "wget":
		p = o.wget()
	case "nc", "ncat", "netcat":
		p = o.netcat()
	case "pg_isready":
		p = o.postgres(env)
	case "redis-cli", "valkey-cli":
		p = o.redis(env)
	}

	if o.wrong {
		return nil
	}

	return p
}

// itself tells whether a host's name means the instance, as its own services know it.
func itself(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "0.0.0.0"
}

// httpProbe makes a probe of a URL; nil when it does not ask the instance itself over plain http, or over https
// without looking at the certificate.
func httpProbe(address string, insecure bool) *Probe {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}

	u, err := url.Parse(address)
	if err != nil || !itself(u.Hostname()) || u.User != nil || u.Scheme != "http" && (u.Scheme != "https" || !insecure) {
		return nil
	}

	p := &Probe{Type: "http", Path: u.RequestURI(), Host: u.Host, TLS: u.Scheme == "https"}
	if u.Port() != "" {
		p.Port, err = strconv.Atoi(u.Port())
	}

	if err != nil || p.Port < 0 || p.Port > 65535 {
		return nil
	}

	return p
}
