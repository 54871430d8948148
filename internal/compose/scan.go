package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// The limits of the pre-scan: generous for what people write, far below what makes a parser suffer.
const (
	maxDepth    = 64     // mappings and lists inside each other, flow and block
	maxAliases  = 1000   // aliases followed, each time they are met
	maxNodes    = 50_000 // YAML nodes, aliases followed
	maxServices = 1000   // services of one file
	maxNesting  = 16     // "${A:-${B:-…}}"
	maxVariable = 1000   // variables in one value
)

// coreTags are the tags a file may use: YAML's own and compose's two.
var coreTags = map[string]bool{
	"": true, "!": true, "!!str": true, "!!int": true, "!!bool": true, "!!float": true, "!!null": true, "!!map": true,
	"!!seq": true, "!!merge": true, "!!timestamp": true, "!!binary": true, "!reset": true, "!override": true,
}

// Prescan parses the documents of a file into nodes, or refuses it when a later parser could choke on it. A
// file without content gives neither nodes nor problems.
func Prescan(file string, content []byte) ([]*yaml.Node, []Problem) {
	problem := checkBytes(content)
	if problem != nil {
		problem.File = file
		return nil, []Problem{*problem}
	}

	loader, err := yaml.NewLoader(bytes.NewReader(content), yaml.WithV3Defaults(),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, []Problem{{File: file, Text: err.Error()}}
	}

	s := scanner{file: file}
	var docs []*yaml.Node
	for {
		doc := &yaml.Node{}
		err = loader.Load(doc)
		if errors.Is(err, io.EOF) && len(s.problems) > 0 {
			return nil, s.problems
		}

		if errors.Is(err, io.EOF) {
			return docs, nil
		}

		if err != nil {
			return nil, append(s.problems, syntaxProblem(file, content, err))
		}

		docs = s.document(docs, doc)
	}
}

// checkBytes looks at what YAML does not get to see.
func checkBytes(content []byte) *Problem {
	if len(content) > maxFile {
		return &Problem{Text: errTooBig.Error(), Hint: fileHint(errTooBig)}
	}

	line, start := 1, 0
	for i := 0; i < len(content); {
		r, n := utf8.DecodeRune(content[i:])
		text, hint := checkRune(r, n)
		if text != "" {
			column := utf8.RuneCount(content[start:i]) + 1
			return &Problem{Line: line, Column: column, Text: text, Hint: hint}
		}

		i += n
		if r == '\n' {
			line, start = line+1, i
		}
	}

	return nil
}

// checkRune says what is wrong with a character of n bytes.
func checkRune(r rune, n int) (text, hint string) {
	switch {
	case r == utf8.RuneError && n == 1:
		return "not UTF-8 text", "save the file as UTF-8"
	case r == '\n', r == '\r', r == '\t', r == 0x85:
	case unicode.IsControl(r), r == 0xFFFE, r == 0xFFFF:
		return fmt.Sprintf("control character %#02x", r), `delete it, or write it as an escape in double quotes, "\x1b"`
	}

	return "", ""
}

// scanner walks the nodes of a file.
type scanner struct {
	file           string
	nodes, aliases int
	full           bool // a limit was hit: stop
	problems       []Problem
}

func (s *scanner) document(docs []*yaml.Node, doc *yaml.Node) []*yaml.Node {
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return docs
	}

	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		s.refuse(top, "a compose file is a mapping, this is "+kindName(top), `begin with "services:"`)
		return docs
	}

	s.walk(top)
	for key, value := range pairs(top) {
		count := len(deref(value).Content) / 2
		if key.Value == "services" && count > maxServices {
			s.refuse(key, fmt.Sprintf("%d services; a file may have %d", count, maxServices), "split the stack into several stacks")
		}
	}

	return append(docs, top)
}

func (s *scanner) refuse(n *yaml.Node, text, hint string) {
	s.problems = append(s.problems, Problem{File: s.file, Line: n.Line, Column: n.Column, Text: text, Hint: hint})
}

// limit refuses the node and ends the walk.
func (s *scanner) limit(n *yaml.Node, text, hint string) {
	s.refuse(n, text, hint)
	s.full = true
}

func (s *scanner) walk(n *yaml.Node) {
	s.nodes++
	if s.nodes > maxNodes && !s.full {
		s.limit(n, fmt.Sprintf("more than %d keys and values", maxNodes), "split the stack into several files")
	}

	if s.full {
		return
	}

	if !coreTags[n.Tag] && n.Kind != yaml.AliasNode {
		s.refuse(n, fmt.Sprintf("the tag %s is not known", n.Tag), "compose files use !reset and !override only")
	}

	switch n.Kind {
	case yaml.AliasNode:
		s.aliases++
		if s.aliases > maxAliases {
			s.limit(n, fmt.Sprintf("more than %d aliases", maxAliases), `use "extends" or a second file instead of anchors`)
			return
		}

		s.walk(n.Alias)
	case yaml.MappingNode:
		s.mapping(n)
	case yaml.SequenceNode:
		for _, c := range n.Content {
			s.walk(c)
		}
	case yaml.ScalarNode:
		s.scalar(n)
	}
}

func (s *scanner) mapping(n *yaml.Node) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			s.refuse(key, "a key must be a word, this is "+kindName(key), "quote it when it is meant as text")
			continue
		}

		line, twice := seen[key.Value]
		if twice {
			s.refuse(key, fmt.Sprintf("the key %q is given twice, first in line %d", key.Value, line), "remove one of the two")
		}

		seen[key.Value] = key.Line
		s.walk(n.Content[i+1])
	}
}

func (s *scanner) scalar(n *yaml.Node) {
	depth, count := nesting(n.Value)
	if depth > maxNesting {
		s.refuse(n, fmt.Sprintf("variables nested more than %d deep", maxNesting), "give intermediate values names in .env")
	}

	if count > maxVariable {
		s.refuse(n, fmt.Sprintf("more than %d variables in one value", maxVariable), "write $$ for a dollar sign that is meant as such")
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "a single value"
	}

	return "an alias"
}

// yamlHints says what to do about the parser's complaints.
var yamlHints = map[string]string{
	"did not find expected key":                              "check the indentation: the keys of one mapping begin in the same column",
	"did not find expected '-' indicator":                    "check the indentation: the items of one list begin in the same column",
	"mapping values are not allowed in this context":         `quote a value that contains ": ", or check the indentation`,
	"found unexpected end of stream":                         "close the quote",
	"did not find expected ',' or ']'":                       "close the bracket, or put a comma between the items",
	"did not find expected ',' or '}'":                       "close the brace, or put a comma between the pairs",
	"could not find expected ':'":                            "put a colon and a space after the key",
	"found character that cannot start any token":            "indent with spaces, not tabs, and quote values that begin with @, ` or %",
	"found a tab character that violates indentation":        "indent with spaces, not tabs",
	"exceeded max depth of " + strconv.Itoa(maxDepth):        "no compose file needs that: write it flat",
	"block sequence entries are not allowed in this context": "put the list on the lines after the key",
}

// syntaxProblem gives a YAML error its place and shows the line.
func syntaxProblem(file string, content []byte, err error) Problem {
	p := Problem{File: file, Text: "not valid YAML: " + err.Error()}
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return p
	}

	p.Line, p.Column = load.Mark.Line, load.Mark.Column
	text := load.Message
	lines := strings.Split(string(content), "\n")
	if text == "found unexpected end of stream" && load.ContextMark.Line > 0 {
		p.Line, p.Column = load.ContextMark.Line, load.ContextMark.Column
	}

	p.Text = "not valid YAML: " + text
	if p.Line > 0 && p.Line <= len(lines) {
		p.Text += fmt.Sprintf(", at %q", clip(strings.TrimRight(lines[p.Line-1], "\r")))
	}

	p.Hint = yamlHints[text]
	if strings.HasPrefix(text, "unknown anchor") {
		p.Hint = "define the anchor with & before it is used, or quote a value that begins with *"
	}

	return p
}

// clip shortens a line for a message.
func clip(s string) string {
	const most = 60
	r := []rune(s)
	if len(r) <= most {
		return s
	}

	return string(r[:most]) + "…"
}
