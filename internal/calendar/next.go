package calendar

import "time"

// lastYear is where Next gives up, as systemd does.
const lastYear = 2199

// Next returns the first moment after t at which e elapses, in e's own time zone or else that of t; ok is false
// when there is none. A time that a change of the clocks leaves out is moved on by it.
func (e Expr) Next(t time.Time) (next time.Time, ok bool) {
	if e.IsZero() {
		return time.Time{}, false
	}

	if e.zone != nil {
		t = t.In(e.zone)
	}

	year, month, day := t.Date()
	for year <= lastYear {
		switch {
		case !e.year.has(year):
			year, month, day = year+1, time.January, 1
		case !e.month.has(int(month)):
			year, month = following(year, month)
			day = 1
		case day > length(year, month):
			year, month = following(year, month)
			day = 1
		case !e.on(year, month, day):
			day++
		default:
			next, ok = e.within(year, month, day, t)
			if ok {
				return next, true
			}

			day++
		}
	}

	return time.Time{}, false
}

// Open reports whether a window that opens at each moment of e and stays open for d is open at t; else opens is when
// it opens next, zero when it never does.
func (e Expr) Open(t time.Time, d time.Duration) (open bool, opens time.Time) {
	last, ok := e.Next(t.Add(-d))
	if ok && !last.After(t) {
		return true, time.Time{}
	}

	return false, last
}

func following(year int, month time.Month) (int, time.Month) {
	if month == time.December {
		return year + 1, time.January
	}

	return year, month + 1
}

// length is the number of days of a month.
func length(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// on tells whether a day of a fitting month counts.
func (e Expr) on(year int, month time.Month, day int) bool {
	number := day
	if e.fromEnd {
		number = length(year, month) - day + 1
	}

	return e.day.has(number) && (e.anyDay || e.weekdays[time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday()])
}

// within finds the first time of a day that is after t.
func (e Expr) within(year int, month time.Month, day int, t time.Time) (time.Time, bool) {
	for hour := range 24 {
		if !e.hour.has(hour) || !time.Date(year, month, day, hour, 59, 59, 0, t.Location()).After(t) {
			continue
		}

		for minute := range 60 {
			if !e.minute.has(minute) {
				continue
			}

			for second := range 60 {
				at := time.Date(year, month, day, hour, minute, second, 0, t.Location())
				if e.second.has(second) && at.After(t) {
					return at, true
				}
			}
		}
	}

	return time.Time{}, false
}
