package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// span prints a duration as a person says it: "12 s", "5 min", "2 h", "3 d".
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}

// ago prints how long something is past, and in how long it will be: "2 h ago", "in 30 s"; "" for the zero time.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case d <= -time.Second:
		return "in " + span(-d)
	case d < time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

// since prints how long something lasts; "" for the zero time.
func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return span(now.Sub(t))
}

// indent puts two spaces before every line.
func indent(text string) string { return "  " + hang(text) }

// hang puts two spaces before every line but the first.
func hang(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

// place prints "blog.yaml:7:3: "; "" without a file. Lines and columns that are 0 are left out.
func place(file string, line, column int) string {
	switch {
	case file == "" || file == ".":
		return ""
	case line == 0:
		return file + ": "
	case column == 0:
		return fmt.Sprintf("%s:%d: ", file, line)
	}
	return fmt.Sprintf("%s:%d:%d: ", file, line, column)
}

// keyed prints "services.web.ports: "; "" without a key.
func keyed(key string) string {
	if key == "" {
		return ""
	}
	return key + ": "
}

// cell is a field of a table, with the colour it may be shown in.
type cell struct {
	text   string
	colour colour
}

func plainCell(text string) cell { return cell{text: text} }

// colour is an SGR parameter (ECMA-48); "" is none.
type colour string

const (
	green  colour = "32"
	yellow colour = "33"
	red    colour = "31"
	bold   colour = "1"
)

// paint colours text where the output is a terminal.
func (p palette) paint(c colour, text string) string {
	if !p || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// palette says whether colours are used.
type palette bool

// table aligns columns by what is seen, colours left out.
type table struct {
	palette palette
	rows    [][]cell
}

func (t *table) row(cells ...cell) { t.rows = append(t.rows, cells) }

// head is a row of column titles.
func (t *table) head(titles ...string) {
	var cells []cell
	for _, title := range titles {
		cells = append(cells, cell{title, bold})
	}
	t.row(cells...)
}

// print writes the rows, each after a prefix. Columns that are empty but for their title are left out.
func (t *table) print(w io.Writer, prefix string) {
	var widths []int
	used := map[int]bool{}
	for r, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
			used[i] = used[i] || c.text != "" && (r > 0 || c.colour != bold)
		}
	}
	for _, row := range t.rows {
		line, gap := prefix, 0
		for i, c := range row {
			if !used[i] {
				continue
			}
			if c.text != "" {
				line += strings.Repeat(" ", gap) + t.palette.paint(c.colour, c.text)
				gap = 0
			}
			gap += widths[i] - utf8.RuneCountInString(c.text) + 2
		}
		fmt.Fprintln(w, line)
	}
}
