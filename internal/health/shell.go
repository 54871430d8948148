package health

import "strings"

// word is one word of a command line, or an operator of the shell between words.
type word struct {
	text string
	op   bool
}

// shellWords splits a line as a shell would, for the few things that checks are made of: words, quotes, variables
// of the environment, and the operators || && | > 2> and >&. It tells false for a line with anything else in it.
func shellWords(line string, env func(string) (string, bool)) ([]word, bool) {
	l := lexer{rest: strings.TrimSpace(line), env: env}
	for l.rest != "" {
		if !l.next() {
			return nil, false
		}
	}

	l.end()

	return l.words, true
}

// lexer is a line that is being split.
type lexer struct {
	rest  string
	env   func(string) (string, bool)
	words []word
	text  strings.Builder
	begun bool // a word is
}

// next takes one piece off the line.
func (l *lexer) next() bool {
	c := l.rest[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' && strings.TrimSpace(l.rest) == "":
		l.end()
		l.rest = l.rest[1:]
	case c == '\'':
		inside, rest, closed := strings.Cut(l.rest[1:], "'")
		if !closed {
			return false
		}

		l.add(inside, rest)
	case c == '"':
		return l.quoted()
	case c == '$':
		return l.variable()
	case c == '\\' && len(l.rest) > 1 && l.rest[1] != '\n':
		l.add(l.rest[1:2], l.rest[2:])
	case strings.ContainsRune("|&<>", rune(c)) || c == '2' && !l.begun && strings.HasPrefix(l.rest, "2>"):
		return l.operator()
	case strings.ContainsRune("\n;`(){}*[]~#!\\", rune(c)):
		return c == '[' && l.bracket() || c == ']' && l.bracket()
	default:
		l.add(l.rest[:1], l.rest[1:])
	}

	return true
}

// bracket takes [ and ] that stand alone: the test command.
func (l *lexer) bracket() bool {
	alone := !l.begun && (len(l.rest) == 1 || l.rest[1] == ' ')
	if alone {
		l.add(l.rest[:1], l.rest[1:])
	}

	return alone
}

func (l *lexer) add(text, rest string) {
	l.text.WriteString(text)
	l.begun, l.rest = true, rest
}

func (l *lexer) end() {
	if l.begun {
		l.words = append(l.words, word{text: l.text.String()})
	}

	l.text.Reset()
	l.begun = false
}

func (l *lexer) operator() bool {
	for _, op := range []string{"||", "&&", "2>&1", ">&2", "1>&2", "&>", "2>", ">", "|"} {
		rest, found := strings.CutPrefix(l.rest, op)
		if found && !strings.HasPrefix(rest, "&") && !strings.HasPrefix(rest, ">") {
			l.end()
			l.words = append(l.words, word{text: op, op: true})
			l.rest = rest

			return true
		}
	}

	return false
}

// quoted takes a text in double quotes. "$(command)" becomes a word that begins with "$(" and is no other word.
func (l *lexer) quoted() bool {
	inside, rest, found := strings.Cut(l.rest[1:], `)"`)
	if strings.HasPrefix(inside, "$(") && found && !strings.Contains(inside, `"`) {
		l.add(inside+")", rest)
		return true
	}

	l.begun, l.rest = true, l.rest[1:]
	for l.rest != "" {
		switch c := l.rest[0]; {
		case c == '"':
			l.rest = l.rest[1:]
			return true
		case c == '`':
			return false
		case c == '$':
			if !l.variable() {
				return false
			}
		case c == '\\' && len(l.rest) > 1 && strings.IndexByte("\"\\$`", l.rest[1]) >= 0:
			l.add(l.rest[1:2], l.rest[2:])
		default:
			l.add(l.rest[:1], l.rest[1:])
		}
	}

	return false
}

// variable takes $NAME, ${NAME} and ${NAME:-default}.
func (l *lexer) variable() bool {
	body := l.rest[1:]
	inside, rest, braced := "", "", strings.HasPrefix(body, "{")
	if braced {
		var closed bool
		inside, rest, closed = strings.Cut(body[1:], "}")
		if !closed {
			return false
		}
	} else {
		n := 0
		for n < len(body) && nameByte(body[n]) {
			n++
		}

		inside, rest = body[:n], body[n:]
	}

	name, fallback, has := strings.Cut(inside, ":-")
	value, set := l.env(name)
	switch {
	case name == "" || strings.IndexFunc(name, func(r rune) bool { return r > 127 || !nameByte(byte(r)) }) >= 0:
		return false
	case has && value == "":
		value = fallback
	case !set:
		return false
	}

	if strings.ContainsAny(value, " \t\n*?[$`\\'\"") {
		return false // a shell would take it apart, or not, by where it stands
	}

	l.add(value, rest)

	return true
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
