package accesslog

import (
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// formatter holds the memory in which lines are made.
type formatter struct {
	body   []byte
	buffer []byte
}

// line returns a whole line: header, body, cut to the target's length, line end. It is valid until the next
// call.
func (f *formatter) line(t *target, tag string, pid int, level Level, at time.Time) []byte {
	b := t.header(f.buffer[:0], tag, pid, level, at)
	b = append(b, f.body...)
	most := t.maxLen
	if t.countsNewline() {
		most--
	}
	if len(b) > most {
		b = b[:most]
	}
	f.buffer = append(b, '\n')
	return f.buffer
}

// countsNewline reports whether the line end counts towards the target's length. HAProxy 2.6 counts it in
// the format raw and in what goes to a descriptor; a datagram with a header is one byte longer than "len"
// says.
func (t *target) countsNewline() bool { return t.format == config.LogRaw || t.descriptor }

// Time stamps of the header formats; local time, as in HAProxy.
const (
	dateBSD  = "Jan _2 15:04:05"
	dateFull = "2006-01-02T15:04:05.000000-07:00"
)

// header appends the header of the target's format. HAProxy's configuration manual describes them under the
// keyword "log"; where a format has a host name and none is configured, HAProxy writes "localhost" in one
// and "-" in the other.
func (t *target) header(b []byte, tag string, pid int, level Level, at time.Time) []byte {
	at = at.Local()
	switch t.format {
	case config.LogRFC3164:
		b = at.AppendFormat(t.priority(b, level), dateBSD)
		b = append(b, ' ')
		b = append(b, orElse(t.hostname, "localhost")...)
		return appendTag(append(b, ' '), tag, pid)
	case config.LogLocal:
		b = at.AppendFormat(t.priority(b, level), dateBSD)
		return appendTag(append(b, ' '), tag, pid)
	case config.LogRFC5424:
		b = append(t.priority(b, level), "1 "...)
		b = append(at.AppendFormat(b, dateFull), ' ')
		b = append(b, orElse(t.hostname, "-")...)
		b = append(append(b, ' '), tag...)
		return append(appendCount(append(b, ' '), pid), " - - "...)
	case config.LogPriority:
		return t.priority(b, level)
	case config.LogShort:
		return appendLevel(b, int(level))
	case config.LogTimed:
		return append(at.AppendFormat(appendLevel(b, int(level)), dateFull), ' ')
	case config.LogISO:
		return append(at.AppendFormat(b, dateFull), ' ')
	case config.LogRaw:
		return b
	}
	panic("BUG: log format out of range")
}

func appendTag(b []byte, tag string, pid int) []byte {
	b = append(append(b, tag...), '[')
	return append(appendCount(b, pid), "]: "...)
}

// priority appends facility and severity as one number.
func (t *target) priority(b []byte, level Level) []byte {
	return appendLevel(b, t.facility<<3|int(level))
}

func appendLevel(b []byte, n int) []byte { return append(appendCount(append(b, '<'), n), '>') }

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
