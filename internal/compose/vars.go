package compose

import "strings"

// nesting returns how deep "${…${…}}" goes in a value, and how many variables it names.
func nesting(s string) (depth, count int) {
	open := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '$':
			i++
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '{':
			open++
			count++
			depth = max(depth, open)
			i++
		case s[i] == '$':
			count++
		case s[i] == '}' && open > 0:
			open--
		}
	}

	return depth, count
}

// unset returns the variables of a value that have no value and no default, so that compose puts the empty
// string in their place; in order, with repetitions.
func unset(s string, env map[string]string) []string {
	var names []string
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			continue
		}

		i++
		if s[i] != '{' {
			name := variableName(s[i:])
			names = append(names, missing(name, env)...)
			i += max(len(name), 1) - 1
			continue
		}

		end := closing(s, i)
		if end < 0 {
			return names // invalid: compose-go refuses it
		}

		names = append(names, unsetBraced(s[i+1:end], env)...)
		i = end
	}

	return names
}

// unsetBraced is unset for what stands between the braces.
func unsetBraced(s string, env map[string]string) []string {
	name := variableName(s)
	op := s[len(name):]
	value, known := env[name]
	known = known && (!strings.HasPrefix(op, ":") || value != "")
	rest := strings.TrimPrefix(op, ":")
	switch {
	case op == "":
		return missing(name, env)
	case strings.HasPrefix(rest, "-") && !known, strings.HasPrefix(rest, "+") && known:
		return unset(rest[1:], env)
	}

	return nil
}

func missing(name string, env map[string]string) []string {
	_, known := env[name]
	if name == "" || known {
		return nil
	}

	return []string{name}
}

// variableName is the name at the beginning of s; empty when there is none.
func variableName(s string) string {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return s[:i]
		}
	}

	return s
}

// closing returns the index of the brace that closes the one at s[i], or -1.
func closing(s string, i int) int {
	open := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '{':
			open++
		case '}':
			open--
			if open == 0 {
				return i
			}
		}
	}

	return -1
}
