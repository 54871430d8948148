package compose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/tree"
)

var (
	schemaError = regexp.MustCompile(`(?s)^validating (\S+?): (.*)$`)
	unknownKeys = regexp.MustCompile(`(?:additional|unevaluated) propert(?:y|ies) (.*) not allowed$`)
	quotedWord  = regexp.MustCompile(`'([^']*)'`)
	interpolate = regexp.MustCompile(`(?s)^error while interpolating (\S+): (.*)$`)
	badTemplate = regexp.MustCompile(`(?s)^invalid interpolation format for (\S+?)\.\n.*\n(.*)$`)
	requiredVar = regexp.MustCompile(`(?s)^required variable (\S+) is missing a value(?:: )?(.*)$`)
	extendsOf   = regexp.MustCompile(`^cannot extend service "([^"]+)" in \S+: (.*)$`)
	structPath  = regexp.MustCompile(`'((?:services|networks|volumes|configs|secrets)\[[^']+)'`)
	mustBe      = regexp.MustCompile(`^([a-z][\w.-]*) (must be .*)$`)
	dottedPath  = regexp.MustCompile(`(?:services|networks|volumes|configs|secrets|include)\.[^\s:,'"]+`)
)

// explain makes problems of one of compose-go's messages.
func explain(x *index, text string) []Problem {
	m := schemaError.FindStringSubmatch(text)
	if m != nil {
		return explainSchema(x, m[1], m[2])
	}

	m = badTemplate.FindStringSubmatch(text)
	if m != nil {
		return []Problem{at(x, m[1], fmt.Sprintf("%q is not a valid variable reference", m[2]), "write $$ for a dollar sign, ${NAME} for a variable")}
	}

	m = interpolate.FindStringSubmatch(text)
	if m != nil {
		return []Problem{explainVariable(x, m[1], m[2])}
	}

	m = extendsOf.FindStringSubmatch(text)
	if m != nil {
		return []Problem{at(x, "services."+m[1]+".extends", m[2], "name a service that exists there")}
	}

	return []Problem{explainOther(x, text)}
}

// libraryHints say what to do about messages of compose-go that do not say it, by a part of them.
var libraryHints = []struct{ part, hint string }{
	{"must be a mapping", "write KEY: VALUE lines below it"},
	{"must be a string", "write one value, in quotes when it looks like a number"},
	{"invalid ip address", "write an address of the host, or leave it out"},
	{"invalid duration", `write a number and a unit, "30s" or "1m30s"`},
	{"invalid size", `write a number and a unit, "512m" or "2g"`},
	{"invalid boolean", "write true or false"},
	{"does not match pattern '^(always|never|build", pullHint},
}

// at is a problem at a key.
func at(x *index, key, text, hint string) Problem {
	for _, h := range libraryHints {
		if hint == "" && strings.Contains(text, h.part) {
			hint = h.hint
		}
	}

	key = strings.NewReplacer("[", ".", "]", "").Replace(strings.ReplaceAll(key, "[]", ""))
	place := x.place(key)

	return Problem{File: place.File, Line: place.Line, Key: strings.TrimSuffix(key, "."), Text: text, Hint: hint}
}

func explainSchema(x *index, file, text string) []Problem {
	key, rest, _ := strings.Cut(text, " ")
	words := unknownKeys.FindStringSubmatch(text)
	switch {
	case rest == "false schema":
		// What "unevaluatedProperties: false" makes of an unknown key.
		parent, word := cutLast(key)
		return unknown(x, parent, word)
	case words == nil:
		p := at(x, key, rest, "")
		if key == "" {
			p.File = file
		}

		return []Problem{p}
	}

	if strings.HasPrefix(text, "additional ") {
		key = "" // the top level has an empty path
	}

	var problems []Problem
	for _, m := range quotedWord.FindAllStringSubmatch(words[1], -1) {
		problems = append(problems, unknown(x, strings.TrimSpace(key), m[1])...)
	}

	return problems
}

func cutLast(key string) (parent, last string) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key
	}

	return key[:i], key[i+1:]
}

// unknown reports an unknown key, and all others at the two levels where people put them: compose-go stops at
// the first.
func unknown(x *index, parent, key string) []Problem {
	problems := []Problem{unknownKey(x, parent, key)}
	known := map[string][]string{}
	for _, s := range x.sources {
		for path := range s.lines {
			parts := strings.Split(path, ".")
			if len(parts) != 1 && len(parts) != 3 {
				continue
			}

			above, word := cutLast(path)
			kind := parts[0]
			_, real := s.nodes[above] // not half of a name with dots
			if len(parts) == 1 {
				kind, real = "", true
			}

			if known[kind] == nil {
				known[kind] = knownKeys(above)
			}

			free := kind == "secrets" || kind == "models" || kind == "include" || kind == "jobs"
			if real && !free && !strings.HasPrefix(word, "x-") && !slices.Contains(known[kind], word) {
				problems = append(problems, unknownKey(x, above, word))
			}
		}
	}

	return problems
}

// unknownKey names the key somebody may have meant.
func unknownKey(x *index, parent, key string) Problem {
	hint := "remove it, or begin its name with x- when it is your own"
	guess := nearest(key, knownKeys(parent))
	if guess != "" {
		hint = fmt.Sprintf("did you mean %s?", guess)
	}

	return at(x, join(parent, key), fmt.Sprintf("unknown key %q", key), hint)
}

// knownKeys are the keys the compose specification has below a path.
func knownKeys(parent string) []string {
	depth := 0
	if parent != "" {
		depth = len(strings.Split(parent, "."))
	}

	var keys []string
	for _, p := range schema.AttributePaths() {
		parts := p.Parts()
		if len(parts) != depth+1 || depth > 0 && !matchesList(tree.Path(parent).Parts(), parts[:depth]) {
			continue
		}

		if last := parts[depth]; last != tree.PathMatchAll && last != tree.PathMatchList {
			keys = append(keys, last)
		}
	}

	slices.Sort(keys)

	return slices.Compact(keys)
}

// matchesList tells whether a path fits a pattern in which "*" is any key and "[]" any item.
func matchesList(path, pattern []string) bool {
	for i, part := range pattern {
		if part != tree.PathMatchAll && part != tree.PathMatchList && part != path[i] {
			return false
		}
	}

	return true
}

func explainVariable(x *index, key, text string) Problem {
	m := requiredVar.FindStringSubmatch(text)
	if m == nil {
		return at(x, key, text, "")
	}

	why := "the variable " + m[1] + " must be set"
	if m[2] != "" {
		why += ": " + m[2]
	}

	return at(x, key, why, "set it in .env beside the file")
}

// explainOther finds a key in a message that was not foreseen.
func explainOther(x *index, text string) Problem {
	text = strings.Join(strings.Fields(strings.TrimPrefix(text, "decoding failed due to the following error(s):")), " ")
	m := structPath.FindStringSubmatch(text)
	if m != nil {
		return at(x, m[1], strings.TrimSpace(strings.Replace(text, m[0], "", 1)), "")
	}

	m = mustBe.FindStringSubmatch(text)
	if m != nil {
		return at(x, m[1], m[2], "")
	}

	key := dottedPath.FindString(text)
	if key == "" {
		return Problem{File: x.file, Text: text}
	}

	rest, cut := strings.CutPrefix(text, key)
	if !cut {
		rest = text
	}

	return at(x, key, strings.TrimLeft(rest, ": "), "")
}
