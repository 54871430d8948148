package calendar_test

import (
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/calendar"
)

const layout = "Mon 2006-01-02 15:04:05"

// The wanted times are those that "systemd-analyze calendar --base-time" prints.
func TestNextIsWhatSystemdSays(t *testing.T) {
	const base = "Tue 2026-11-24 20:03:29"
	for _, tc := range []struct{ text, base, want string }{
		{"minutely", base, "Tue 2026-11-24 20:04:00"},
		{"hourly", base, "Tue 2026-11-24 21:00:00"},
		{"daily", base, "Wed 2026-11-25 00:00:00"},
		{"weekly", base, "Mon 2026-11-30 00:00:00"},
		{"monthly", base, "Tue 2026-12-01 00:00:00"},
		{"quarterly", base, "Fri 2027-01-01 00:00:00"},
		{"semiannually", base, "Fri 2027-01-01 00:00:00"},
		{"yearly", base, "Fri 2027-01-01 00:00:00"},
		{"03:00", base, "Wed 2026-11-25 03:00:00"},
		{"21:30:15", base, "Tue 2026-11-24 21:30:15"},
		{"20:03:29", base, "Wed 2026-11-25 20:03:29"},
		{"Mon *-*-* 03:00", base, "Mon 2026-11-30 03:00:00"},
		{"mon,thu 03:00", base, "Thu 2026-11-26 03:00:00"},
		{"Mon..Fri 19:00", base, "Wed 2026-11-25 19:00:00"},
		{"Sat..Sun 22:00", base, "Sat 2026-11-28 22:00:00"},
		{"Sunday", base, "Sun 2026-11-29 00:00:00"},
		{"*-*-01", base, "Tue 2026-12-01 00:00:00"},
		{"*-*-1,15 04:30", base, "Tue 2026-12-01 04:30:00"},
		{"*-*-31", base, "Thu 2026-12-31 00:00:00"},
		{"*-02-29", base, "Tue 2028-02-29 00:00:00"},
		{"Mon *-02-29", base, "Mon 2044-02-29 00:00:00"},
		{"*-*~01 12:00", base, "Mon 2026-11-30 12:00:00"},
		{"05-01", base, "Sat 2027-05-01 00:00:00"},
		{"2027-06-01 10:00:00", base, "Tue 2027-06-01 10:00:00"},
		{"*:0/15", base, "Tue 2026-11-24 20:15:00"},
		{"*:*:0/10", base, "Tue 2026-11-24 20:03:30"},
		{"8..18/2:00", base, "Wed 2026-11-25 08:00:00"},
		{"*-*-* 22,23:05", base, "Tue 2026-11-24 22:05:00"},
		{"2020-01-01", base, ""},
	} {
		t.Run(tc.text, func(t *testing.T) {
			e, err := calendar.Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}

			from, err := time.Parse(layout, tc.base)
			if err != nil {
				t.Fatal(err)
			}

			next, ok := e.Next(from)
			got := ""
			if ok {
				got = next.Format(layout)
			}

			if got != tc.want {
				t.Errorf("next = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestZoneIsTheExpressionsOwn(t *testing.T) {
	e, err := calendar.Parse("03:00 UTC")
	if err != nil {
		t.Fatal(err)
	}

	zone := time.FixedZone("east", 5*3600)
	got, _ := e.Next(time.Date(2026, 11, 24, 7, 30, 0, 0, zone))
	if want := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("next = %v, want %v", got, want)
	}
}

func TestZeroNeverElapses(t *testing.T) {
	_, ok := calendar.Expr{}.Next(time.Unix(0, 0))
	if ok {
		t.Error("the zero expression elapses")
	}
}

func TestWrongExpressionsSayWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                "it is empty",
		"sometimes":       `"sometimes" is no date`,
		"Mon..Fry 03:00":  `"Mon..Fry" is no weekday`,
		"Sat..Tue 03:00":  `"Sat..Tue" is no weekday`,
		"25:00":           `"25" is no hour from 0 to 23`,
		"*-13-01":         `"13" is no month from 1 to 12`,
		"03:00 04:00":     `"04:00" is one word too many`,
		"1:2:3:4":         `"1:2:3:4" is no time of day`,
		"*:0/0":           `"0/0" is no minute from 0 to 59`,
		"18..8:00":        `"18..8" is no hour from 0 to 23`,
		"03:00 Mars/Base": `the time zone "Mars/Base" is unknown`,
	} {
		_, err := calendar.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `write for example "daily"`) {
			t.Errorf("%q: error = %v, want %q in it", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"daily", "Mon,Tue *-*-* 03:00", "*-02~01 *:0/5:30 UTC", "2026-01-01", "1..5:00"} {
		f.Add(s)
	}

	base := time.Date(2026, 11, 24, 20, 3, 29, 5, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := calendar.Parse(text)
		if err != nil {
			return
		}

		next, ok := e.Next(base)
		if ok && !next.After(base) {
			t.Errorf("%q: %v is not after %v", text, next, base)
		}
	})
}

// TestWindow: a window is open from each of its moments on for as long as it stays, also over a change of the clocks.
func TestWindow(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		expr, now string
		stays     time.Duration
		open      bool
		opens     string
	}{
		{"Sat 03:00", "2026-11-25 12:00:00", time.Hour, false, "2026-11-28 03:00:00"},
		{"Sat 03:00", "2026-11-28 02:59:59", time.Hour, false, "2026-11-28 03:00:00"},
		{"Sat 03:00", "2026-11-28 03:00:00", time.Hour, true, ""},
		{"Sat 03:00", "2026-11-28 03:59:59", time.Hour, true, ""},
		{"Sat 03:00", "2026-11-28 04:00:00", time.Hour, false, "2026-12-05 03:00:00"},
		{"Sat 23:00", "2026-11-29 01:00:00", 3 * time.Hour, true, ""},             // over midnight
		{"hourly", "2026-11-29 01:17:00", 2 * time.Hour, true, ""},                // never closed
		{"02:30", "2026-03-29 03:10:00", time.Hour, false, "2026-03-29 03:30:00"}, // 02:30 does not exist that night
		{"02:30", "2026-03-29 04:00:00", time.Hour, true, ""},
		{"02:00", "2026-10-25 03:30:00", time.Hour, false, "2026-10-26 02:00:00"}, // an hour from the first 02:00 on
		{"2020-01-01", "2026-11-25 12:00:00", time.Hour, false, ""},
	} {
		expr, err := calendar.Parse(c.expr)
		if err != nil {
			t.Fatal(err)
		}

		now, err := time.ParseInLocation(time.DateTime, c.now, zone)
		if err != nil {
			t.Fatal(err)
		}

		open, opens := expr.Open(now, c.stays)
		got := ""
		if !opens.IsZero() {
			got = opens.Format(time.DateTime)
		}

		if open != c.open || got != c.opens {
			t.Errorf("%s for %s at %s: open %t, opens %q; want %t, %q", c.expr, c.stays, c.now, open, got, c.open, c.opens)
		}
	}
}
