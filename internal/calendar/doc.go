// Package calendar reads systemd's calendar expressions (systemd.time(7), "Calendar Events") and says when they
// elapse next: "daily", "Mon..Fri 03:00", "*-*-01 04:30:00 UTC". It is pure: the clock is the caller's.
//
// The common subset is understood: the shorthands, weekdays, dates and times with lists, ranges and repetitions,
// "~" for days counted from a month's end, and a time zone at the end. Fractions of a second are not.
package calendar
