package calendar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Expr is a parsed expression. The zero Expr never elapses; Parse makes the others.
type Expr struct {
	text string
	// weekdays are those that count; none means all.
	weekdays [7]bool
	anyDay   bool
	// year … second are the values of each unit.
	year, month, day, hour, minute, second field
	// fromEnd counts the days of the month backwards: 1 is the last one.
	fromEnd bool
	zone    *time.Location // nil means that of the time asked about
}

// String returns the expression as it was written.
func (e Expr) String() string { return e.text }

// IsZero tells whether e is the zero Expr, which never elapses.
func (e Expr) IsZero() bool { return e.text == "" }

// field is the values of one unit; nil means all.
type field []span

// span is first, first+step, … up to last.
type span struct{ first, last, step int }

func (f field) has(n int) bool {
	return f == nil || slices.ContainsFunc(f, func(s span) bool {
		return n >= s.first && n <= s.last && (n-s.first)%s.step == 0
	})
}

// shorthands are what systemd.time(7) calls so.
var shorthands = map[string]string{
	"minutely": "*-*-* *:*:00", "hourly": "*-*-* *:00:00", "daily": "*-*-* 00:00:00", "weekly": "Mon *-*-* 00:00:00",
	"monthly": "*-*-01 00:00:00", "quarterly": "*-01,04,07,10-01 00:00:00", "semiannually": "*-01,07-01 00:00:00",
	"yearly": "*-01-01 00:00:00", "annually": "*-01-01 00:00:00",
}

// Parse reads an expression. Its error says what is wrong and what an expression looks like.
func Parse(text string) (Expr, error) {
	e, err := parse(text)
	if err != nil {
		return Expr{}, fmt.Errorf(`%q is no calendar expression: %w (write for example "daily", "03:00" or "Mon *-*-* 03:00")`, text, err)
	}

	e.text = text

	return e, nil
}

func parse(text string) (Expr, error) {
	e := Expr{anyDay: true}
	words := strings.Fields(text)
	if len(words) == 0 {
		return e, errors.New("it is empty")
	}

	words, err := e.takeZone(words)
	if err != nil {
		return e, err
	}

	long, short := shorthands[strings.ToLower(words[0])]
	if short && len(words) == 1 {
		words = strings.Fields(long)
	}

	if isWeekday(words[0]) {
		err = e.setWeekdays(words[0])
		if err != nil {
			return e, err
		}

		words = words[1:]
	}

	if len(words) > 0 && !strings.Contains(words[0], ":") {
		err = e.setDate(words[0])
		if err != nil {
			return e, err
		}

		words = words[1:]
	}

	clock := "00:00:00"
	if len(words) > 0 {
		clock, words = words[0], words[1:]
	}

	if len(words) > 0 {
		return e, fmt.Errorf("%q is one word too many", words[0])
	}

	return e, e.setTime(clock)
}

// takeZone takes the zone off the end: UTC, or a name such as Europe/Vienna.
func (e *Expr) takeZone(words []string) ([]string, error) {
	last := words[len(words)-1]
	if len(words) < 2 || !strings.Contains(last, "/") && last != "UTC" || strings.ContainsAny(last, ":*") || last[0] >= '0' && last[0] <= '9' {
		return words, nil
	}

	zone, err := time.LoadLocation(last)
	if err != nil {
		return nil, fmt.Errorf("the time zone %q is unknown", last)
	}

	e.zone = zone

	return words[:len(words)-1], nil
}

var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// weekday is the number of a day's name or its first three letters; -1 for other words.
func weekday(word string) int {
	word = strings.ToLower(word)
	return slices.IndexFunc(weekdays, func(d string) bool { return word == d || word == d[:3] })
}

func isWeekday(word string) bool {
	end := strings.IndexAny(word, ",.-")
	if end < 0 {
		end = len(word)
	}

	return weekday(word[:end]) >= 0
}

func (e *Expr) setWeekdays(word string) error {
	e.anyDay = false
	for part := range strings.SplitSeq(strings.TrimSuffix(word, ","), ",") {
		from, to, ranged := strings.Cut(part, "..")
		if !ranged {
			from, to, ranged = strings.Cut(part, "-")
		}

		first, last := weekday(from), weekday(to)
		if !ranged {
			last = first
		}

		const week = 7 // in which Sunday comes last
		if first < 0 || last < 0 || (first+week-1)%week > (last+week-1)%week {
			return fmt.Errorf("%q is no weekday", part)
		}

		for d := first; ; d = (d + 1) % week {
			e.weekdays[d] = true
			if d == last {
				break
			}
		}
	}

	return nil
}

// setDate reads "2026-01-31", "*-*-01", "05-01" or "*-02~01".
func (e *Expr) setDate(word string) error {
	before, day, fromEnd := strings.Cut(word, "~")
	parts := strings.Split(before, "-")
	if fromEnd {
		parts = append(parts, day)
	}

	if len(parts) == 2 {
		parts = append([]string{"*"}, parts...)
	}

	if len(parts) != 3 {
		return fmt.Errorf("%q is no date", word)
	}

	e.fromEnd = fromEnd

	return errors.Join(
		read(&e.year, "year", parts[0], 1970, lastYear), read(&e.month, "month", parts[1], 1, 12), read(&e.day, "day", parts[2], 1, 31),
	)
}

// setTime reads "03:00" or "*:00/15:00".
func (e *Expr) setTime(word string) error {
	parts := strings.Split(word, ":")
	if len(parts) == 2 {
		parts = append(parts, "00")
	}

	if len(parts) != 3 {
		return fmt.Errorf("%q is no time of day", word)
	}

	return errors.Join(
		read(&e.hour, "hour", parts[0], 0, 23), read(&e.minute, "minute", parts[1], 0, 59), read(&e.second, "second", parts[2], 0, 59),
	)
}

// read reads the values of one unit: "*", "5", "1,3", "1..5", "0/10", "8..18/2".
func read(f *field, unit, text string, low, high int) error {
	if text == "*" {
		*f = nil
		return nil
	}

	for part := range strings.SplitSeq(text, ",") {
		values, every, repeats := strings.Cut(part, "/")
		from, to, ranged := strings.Cut(values, "..")
		if from == "*" && !ranged {
			from = strconv.Itoa(low)
		}

		s := span{step: 1}
		var errs [3]error
		s.first, errs[0] = strconv.Atoi(from)
		s.last = s.first
		switch {
		case ranged:
			s.last, errs[1] = strconv.Atoi(to)
		case repeats:
			s.last = high
		}

		if repeats {
			s.step, errs[2] = strconv.Atoi(every)
		}

		if errors.Join(errs[:]...) != nil || s.first < low || s.last > high || s.first > s.last || s.step < 1 {
			return fmt.Errorf("%q is no %s from %d to %d", part, unit, low, high)
		}

		*f = append(*f, s)
	}

	return nil
}
