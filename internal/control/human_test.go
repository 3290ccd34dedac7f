package control

import (
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

func TestHumanTime(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		d    time.Duration
		want string
	}{
		{-time.Nanosecond, "?"}, {0, "0s"}, {999 * time.Millisecond, "0s"}, {time.Second, "1s"},
		{4900 * time.Millisecond, "4s"}, {59 * time.Second, "59s"}, {time.Minute, "1m"},
		{62 * time.Second, "1m2s"}, {time.Hour, "1h"}, {time.Hour + time.Second, "1h1s"},
		{13*time.Hour + 40*time.Minute + 7*time.Second, "13h40m"},
		{day, "1d"}, {day + time.Minute, "1d1m"}, {2*day + 3*time.Hour + time.Minute, "2d3h"},
	}
	for _, test := range tests {
		if got := humanTime(test.d); got != test.want {
			t.Errorf("%v prints as %q, want %q", test.d, got, test.want)
		}
	}
}

func TestDeadlines(t *testing.T) {
	const now = ktime.Time(1000 * time.Second)
	for _, test := range []struct {
		name            string
		at              ktime.Time
		channel, ofTask string
	}{
		{"not set", ktime.Never, "-", "<NEVER>"},
		{"ahead", now.Add(4 * time.Second), "4s", "4s"},
		{"passed", now.Add(-4 * time.Second), "?", "<PAST>"},
		{"passed just now", now, "0s", "<PAST>"},
	} {
		if got := until(test.at, now, "-"); got != test.channel {
			t.Errorf("a channel's deadline that is %s prints as %q, want %q", test.name, got, test.channel)
		}
		if got := expiry(test.at, now); got != test.ofTask {
			t.Errorf("a task's deadline that is %s prints as %q, want %q", test.name, got, test.ofTask)
		}
	}
}

func TestThreadMask(t *testing.T) {
	for _, test := range []struct {
		workers []int
		want    string
	}{
		{nil, "0x0"}, {[]int{1}, "0x1"}, {[]int{1, 2}, "0x3"}, {[]int{6}, "0x20"},
		{[]int{65}, "0x10000000000000000"},
	} {
		if got := threadMask(test.workers...); got != test.want {
			t.Errorf("the mask of workers %v is %s, want %s", test.workers, got, test.want)
		}
	}
}

func TestParseDelay(t *testing.T) {
	for _, test := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"5", 5 * time.Second, true}, {"0", 0, true}, {"300ms", 300 * time.Millisecond, true},
		{"2m", 2 * time.Minute, true}, {"1h", time.Hour, true}, {"1d", 24 * time.Hour, true},
		{"7us", 7 * time.Microsecond, true}, {"", 0, false}, {"s", 0, false}, {"-1", 0, false},
		{"5x", 0, false}, {"1.5s", 0, false}, {"30d", 0, false},
		{"99999999999999999999", 0, false},
	} {
		if got, ok := parseDelay(test.text); got != test.want || ok != test.ok {
			t.Errorf("delay %q is %v, %t; want %v, %t", test.text, got, ok, test.want, test.ok)
		}
	}
}
