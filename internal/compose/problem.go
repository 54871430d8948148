package compose

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Problem is one reason why a stack's files are refused.
type Problem struct {
	// File is the absolute path of the file; empty when the problem belongs to none.
	File string `json:"file,omitempty"`
	// Line and Column count from 1; 0 when not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Key is the dotted path of the compose key, "services.web.ports"; empty for problems of the whole file.
	Key string `json:"key,omitempty"`
	// Text says what is wrong, Hint what to do about it.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// String returns "blog.yaml:7: services.web.ports: what is wrong (what to do)".
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(filepath.Base(p.File))
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line))
		}

		if p.Line > 0 && p.Column > 0 {
			b.WriteString(":" + strconv.Itoa(p.Column))
		}

		b.WriteString(": ")
	}

	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}

	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}

	return b.String()
}

// Error refuses a stack's files: it holds every problem that was found, at least one, in file order.
type Error struct {
	Problems []Problem `json:"problems"`
	// Files are the absolute paths of what was read, and of what was looked for and is missing, sorted: a
	// change of any of them is a reason to try again. Empty when the reading was cut short.
	Files []string `json:"files,omitempty"`
	// Warnings are what else there is to say about the files.
	Warnings []plan.Warning `json:"warnings,omitempty"`
}

// Error returns the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}

	return strings.Join(lines, "\n")
}

// refuse makes an Error of the problems, sorted and without repetitions, or returns nil when there are none.
func refuse(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}

	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})

	return &Error{Problems: slices.Compact(problems)}
}
