package cli

import (
	"fmt"
	"slices"
	"strings"
)

// around is how many equal lines are shown beside those that differ.
const around = 3

// maxLines is how long texts may be to be compared line by line; longer ones differ as a whole.
const maxLines = 4000

// textDiff compares two texts line by line, in the unified format (diff(1)); empty when they are equal.
func textDiff(name, from, to, a, b string) string {
	if a == b {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s (%s)\n+++ %s (%s)\n", name, from, name, to)
	edits := compareLines(lines(a), lines(b))
	for i := 0; i < len(edits); {
		if edits[i].kind == ' ' {
			i++
			continue
		}
		begin, end := max(0, i-around), i
		for j := i; j < len(edits) && j <= end+2*around; j++ {
			if edits[j].kind != ' ' {
				end = j
			}
		}
		end = min(len(edits), end+1+around)
		hunk(&out, edits, begin, end)
		i = end
	}
	return out.String()
}

func hunk(out *strings.Builder, edits []edit, begin, end int) {
	x, y, nx, ny := 1, 1, 0, 0
	for i, e := range edits[:end] {
		left, right := e.kind != '+', e.kind != '-'
		switch {
		case i < begin && left && right:
			x, y = x+1, y+1
		case i < begin && left:
			x++
		case i < begin:
			y++
		default:
			if left {
				nx++
			}
			if right {
				ny++
			}
		}
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", x, nx, y, ny)
	for _, e := range edits[begin:end] {
		fmt.Fprintf(out, "%c%s\n", e.kind, e.line)
	}
}

// edit is a line of both texts, of the old one or of the new one: ' ', '-' or '+'.
type edit struct {
	kind byte
	line string
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// compareLines finds the longest common subsequence of two lists and what is left over.
func compareLines(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append([]edit{{' ', a[len(a)-1]}}, tail...)
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return append(append(head, middle(a, b)...), tail...)
}

func middle(a, b []string) []edit {
	var out []edit
	if len(a) > maxLines || len(b) > maxLines {
		for _, line := range a {
			out = append(out, edit{'-', line})
		}
		for _, line := range b {
			out = append(out, edit{'+', line})
		}
		return out
	}
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := range slices.Backward(a) {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, edit{'-', a[i]})
			i++
		default:
			out = append(out, edit{'+', b[j]})
			j++
		}
	}
	return out
}
