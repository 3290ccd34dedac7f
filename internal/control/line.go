package control

import (
	"bufio"
	"net/netip"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

// line is text of a dump in the making, appended to the free part of the writer's buffer: a dump of thousands
// of streams has to be quick while every worker spins, and fmt would take most of its time.
type line struct{ text []byte }

func newLine(w *bufio.Writer) *line { return &line{w.AvailableBuffer()} }

// write writes the text. An error stays with the writer.
func (l *line) write(w *bufio.Writer) { _, _ = w.Write(l.text) }

// end ends a line.
func (l *line) end() { l.text = append(l.text, '\n') }

func (l *line) str(s string) *line {
	l.text = append(l.text, s...)
	return l
}

func (l *line) num(n int) *line {
	l.text = strconv.AppendInt(l.text, int64(n), 10)
	return l
}

// hex appends a number as "%#x" does.
func (l *line) hex(n uint64) *line {
	l.text = strconv.AppendUint(append(l.text, "0x"...), n, 16)
	return l
}

// flags appends a number as "0x%08x" does, with at least so many digits.
func (l *line) flags(n uint32, least int) *line { return l.str("0x").digits(n, least) }

// digits appends a number in hexadecimal with at least so many digits.
func (l *line) digits(n uint32, least int) *line {
	for i := least - 1; i > 0 && n>>(4*i) == 0; i-- {
		l.text = append(l.text, '0')
	}
	l.text = strconv.AppendUint(l.text, uint64(n), 16)
	return l
}

// pointer appends what stands for the address of a part of the stream with that id.
func (l *line) pointer(id uint64, p part) *line { return l.hex(id ^ uint64(p)<<partShift) }

// date appends a time as "show sess all" does.
func (l *line) date(t time.Time) *line {
	l.text = t.AppendFormat(l.text, acceptDate)
	return l
}

// address appends an address as printAddress does.
func (l *line) address(a sys.Address, unix string) *line {
	if a.IsUnix() {
		return l.str(unix)
	}
	ip := a.IP.Addr()
	if ip.Zone() != "" {
		ip = ip.WithZone("")
	}
	if ip == (netip.Addr{}) {
		l.str(ip.String())
	} else {
		l.text = ip.AppendTo(l.text)
	}
	return l.str(":").num(int(a.IP.Port()))
}
