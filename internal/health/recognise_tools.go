package health

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the words of a program, taken one after the other.
type options struct {
	args  []string
	wrong bool // there was one that is not known
}

// option takes the next option apart from its value: "-m 5", "-m5" and "--max-time=5" are "-m", "-m" and
// "--max-time". flags are the short options without a value, which may stand together.
func (o *options) option(flags string) (name, value string, attached, more bool) {
	if len(o.args) == 0 || o.wrong {
		return "", "", false, false
	}

	arg := o.args[0]
	o.args = o.args[1:]
	switch {
	case strings.HasPrefix(arg, "--"):
		name, value, attached = strings.Cut(arg, "=")
		return name, value, attached, true
	case len(arg) > 2 && arg[0] == '-' && strings.IndexByte(flags, arg[1]) >= 0:
		o.args = append([]string{"-" + arg[2:]}, o.args...)
		return arg[:2], "", false, true
	case len(arg) > 2 && arg[0] == '-':
		return arg[:2], arg[2:], true, true
	}

	return arg, "", false, true
}

// text is the value of an option.
func (o *options) text(value string, attached bool) string {
	if attached {
		return value
	}

	if len(o.args) == 0 {
		o.wrong = true
		return ""
	}

	value = o.args[0]
	o.args = o.args[1:]

	return value
}

// limit is a number of seconds, as those programs take them.
func (o *options) limit(value string, attached bool) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSuffix(o.text(value, attached), "s"), 64)
	if err != nil || f <= 0 || f > 86400 {
		o.wrong = true
	}

	return time.Duration(f * float64(time.Second))
}

func (o *options) port(value string, attached bool) int {
	n, err := strconv.Atoi(o.text(value, attached))
	if err != nil || n < 1 || n > 65535 {
		o.wrong = true
	}

	return n
}

// curl passes for any answer; with -f for one below 400 (curl(1)).
func (o *options) curl() *Probe {
	var address, method string
	p := Probe{Any: true}
	insecure := false
	for name, value, attached, more := o.option("fsSLkIvi"); more; name, value, attached, more = o.option("fsSLkIvi") {
		switch name {
		case "-f", "--fail", "--fail-with-body":
			p.Any = false
		case "-s", "--silent", "-S", "--show-error", "-v", "--verbose", "-i", "--include", "--compressed", "-4", "--ipv4", "--no-progress-meter":
		case "-L", "--location":
			p.Follow = true
		case "-k", "--insecure":
			insecure = true
		case "-I", "--head":
			method = "HEAD"
		case "-X", "--request":
			method = o.text(value, attached)
		case "-o", "--output":
			o.wrong = o.wrong || !slices.Contains([]string{"/dev/null", "-"}, o.text(value, attached))
		case "-m", "--max-time":
			p.Within = o.limit(value, attached)
		case "--connect-timeout":
			_ = o.limit(value, attached)
		case "-A", "--user-agent":
			setHeader(&p, "User-Agent", o.text(value, attached))
		case "-H", "--header":
			key, v, ok := strings.Cut(o.text(value, attached), ":")
			o.wrong = o.wrong || !ok || strings.TrimSpace(v) == ""
			setHeader(&p, key, strings.TrimSpace(v))
		case "--url":
			o.once(&address, o.text(value, attached))
		default:
			o.once(&address, name)
		}
	}

	u := httpProbe(address, insecure)
	if u == nil {
		return nil
	}

	p.Type, p.Port, p.Path, p.Host, p.TLS, p.Method = u.Type, u.Port, u.Path, u.Host, u.TLS, method
	host, ok := p.Headers["Host"]
	if ok {
		p.Host = host
		delete(p.Headers, "Host")
	}

	return &p
}

// once takes the one word that is no option.
func (o *options) once(into *string, arg string) {
	if *into != "" || strings.HasPrefix(arg, "-") {
		o.wrong = true
	}

	*into = arg
}

// setHeader adds a header that a command names.
func setHeader(p *Probe, key, value string) {
	if p.Headers == nil {
		p.Headers = map[string]string{}
	}

	if strings.EqualFold(key, "host") {
		key = "Host"
	}

	p.Headers[key] = value
}

// wget passes for an answer below 400 once it has followed where it was sent (wget(1), busybox).
func (o *options) wget() *Probe {
	var address, method string
	harmless, insecure := false, false // harmless: it leaves no file behind
	var within time.Duration
	headers := Probe{}
	for name, value, attached, more := o.option("qSc"); more; name, value, attached, more = o.option("qSc") {
		switch name {
		case "-q", "--quiet", "-S", "--server-response", "-nv", "--no-verbose", "--no-cache", "-4":
		case "-n":
			o.wrong = o.wrong || value != "v"
		case "--spider":
			harmless, method = true, "HEAD"
		case "--no-check-certificate":
			insecure = true
		case "-O", "--output-document":
			to := o.text(value, attached)
			harmless = true
			o.wrong = o.wrong || to != "-" && to != "/dev/null"
		case "-T", "--timeout":
			within = o.limit(value, attached)
		case "-t", "--tries":
			o.wrong = o.wrong || o.text(value, attached) != "1"
		case "-Y":
			o.wrong = o.wrong || o.text(value, attached) != "off"
		case "--header":
			key, v, ok := strings.Cut(o.text(value, attached), ":")
			o.wrong = o.wrong || !ok
			setHeader(&headers, key, strings.TrimSpace(v))
		default:
			o.once(&address, name)
		}
	}

	p := httpProbe(address, insecure)
	if p == nil || !harmless {
		return nil
	}

	p.Method, p.Follow, p.Within, p.Headers = method, true, within, headers.Headers

	return p
}

// netcat passes when the port accepts a connection.
func (o *options) netcat() *Probe {
	p := Probe{Type: "tcp"}
	zero := false
	var rest []string
	for name, value, attached, more := o.option("zvn4"); more; name, value, attached, more = o.option("zvn4") {
		switch name {
		case "-z":
			zero = true
		case "-v", "-n", "-4":
		case "-w":
			p.Within = o.limit(value, attached)
		default:
			o.wrong = o.wrong || strings.HasPrefix(name, "-")
			rest = append(rest, name)
		}
	}

	if !zero || len(rest) != 2 || !itself(rest[0]) {
		return nil
	}

	o.args = rest[1:]
	p.Port = o.port("", false)

	return &p
}

// postgres passes when the server takes connections, whoever asks (pg_isready(1)).
func (o *options) postgres(env func(string) (string, bool)) *Probe {
	p := Probe{Type: "postgres", Port: 5432}
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"} {
		v, _ := env(name)
		o.wrong = o.wrong || v != "" // it asks elsewhere
	}

	for name, value, attached, more := o.option("q"); more; name, value, attached, more = o.option("q") {
		switch name {
		case "-q", "--quiet":
		case "-h", "--host":
			o.wrong = o.wrong || !itself(o.text(value, attached))
		case "-p", "--port":
			p.Port = o.port(value, attached)
		case "-t", "--timeout":
			p.Within = o.limit(value, attached)
		case "-U", "--username":
			_ = o.text(value, attached)
		case "-d", "--dbname":
			o.wrong = o.wrong || strings.ContainsAny(o.text(value, attached), "=:/")
		default:
			o.wrong = true
		}
	}

	return &p
}

// redis passes for any answer, an error of the server too (redis-cli(1)).
func (o *options) redis(env func(string) (string, bool)) *Probe {
	p := Probe{Type: "redis", Port: 6379}
	p.Password, _ = env("REDISCLI_AUTH")
	ping := false
	for name, value, attached, more := o.option("e"); more; name, value, attached, more = o.option("e") {
		switch name {
		case "--no-auth-warning", "--raw", "--no-raw":
		case "-h":
			o.wrong = o.wrong || !itself(o.text(value, attached))
		case "-p":
			p.Port = o.port(value, attached)
		case "-a", "--pass":
			p.Password = o.text(value, attached)
		case "-e":
			p.Body = "PONG"
		default:
			o.wrong = o.wrong || ping || !strings.EqualFold(name, "ping")
			ping = true
		}
	}

	if !ping {
		return nil
	}

	return &p
}
