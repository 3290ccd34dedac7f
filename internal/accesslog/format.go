package accesslog

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/rules"
)

// line appends one line in a format of "log-format".
type line struct {
	record *engine.Record
	// session is the record's, or an empty one: a format that asks for nothing has none.
	session *rules.Session
	process *processFacts
}

// processFacts are what is the same in all lines.
type processFacts struct {
	hostname string
	pid      int
}

// appendFormat appends the line of a stream in the format of its frontend.
func appendFormat(b []byte, f *rules.Format, r *engine.Record, process *processFacts) []byte {
	l := line{record: r, session: r.Session, process: process}
	if l.session == nil {
		l.session = &rules.Session{}
	}
	for i := range f.Parts {
		switch p := &f.Parts[i]; p.Kind {
		case rules.PartText:
			b = append(b, p.Text...)
		case rules.PartBlank:
			if len(b) == 0 || b[len(b)-1] != ' ' {
				b = append(b, ' ')
			}
		case rules.PartVariable:
			b = l.variable(b, p)
		case rules.PartSample:
			text := ""
			if v, ok := p.Sample.Evaluate(l.session); ok {
				text = v.String()
			}
			b = appendText(b, text, p.Flags)
		}
	}
	return b
}

// appendText appends a text as its flags want it: "-" for none, which is nothing between quotes.
func appendText(b []byte, text string, flags rules.Flags) []byte {
	quoted := flags&rules.FlagQuote != 0
	if quoted {
		b = append(b, '"')
	} else if text == "" {
		return append(b, '-')
	}
	for i := range len(text) {
		if c := text[i]; flags&rules.FlagEscape != 0 && (c == '"' || c == '\\' || c == ']') {
			b = append(b, '\\')
		}
		b = appendPrintable(b, text[i:i+1])
	}
	if quoted {
		b = append(b, '"')
	}
	return b
}

// variable appends one variable of HAProxy's configuration manual, section 8.2.6.
func (l *line) variable(b []byte, p *rules.Part) []byte {
	r, flags := l.record, p.Flags
	asap := r.Event == engine.RecordEstablished
	switch p.Text {
	case "B":
		return strconv.AppendUint(appendPlus(b, asap), r.ToClient, 10)
	case "U":
		return strconv.AppendUint(appendPlus(b, asap), r.FromClient, 10)
	case "H":
		return appendText(b, l.process.hostname, flags)
	case "Tc":
		return appendMilliseconds(b, r.Connect)
	case "Th":
		return appendMilliseconds(b, l.session.Handshake)
	case "Tt":
		return appendMilliseconds(appendPlus(b, asap), r.Total)
	case "Tw":
		return appendMilliseconds(b, r.Queue)
	case "T", "Tl", "Ts", "ms", "t":
		return appendDate(b, p.Text, r.Accepted)
	case "b":
		return appendText(b, backendName(r), flags)
	case "f":
		return appendText(b, r.Frontend.Name, flags)
	case "ft":
		name := r.Frontend.Name
		if r.TLS {
			name += "~"
		}
		return appendText(b, name, flags)
	case "s":
		return appendText(b, serverName(r), flags)
	case "sslc", "sslv":
		return l.tls(b, p)
	case "ts":
		return append(b, r.Ending.String()...)
	case "tsc":
		return append(append(b, r.Ending.String()...), "--"...)
	}
	if n, is := l.count(p.Text); is {
		if p.Text == "rc" {
			b = appendPlus(b, r.Redispatched)
		}
		if flags&rules.FlagHex != 0 && (p.Text == "pid" || p.Text == "rt") {
			return fmt.Appendf(b, "%04X", n)
		}
		return appendCount(b, n)
	}
	return l.address(b, p)
}

// count returns the value of a variable that is a number of something.
func (l *line) count(name string) (n int, is bool) {
	r := l.record
	switch name {
	case "ac":
		return r.ProcessConns, true
	case "fc":
		return r.FrontendConns, true
	case "bc":
		return backendConns(r), true
	case "sc":
		return r.ServerConns, true
	case "rc":
		return r.Retries, true
	case "sq":
		return r.ServerQueue, true
	case "bq":
		return r.BackendQueue, true
	case "rt":
		return int(r.Serial), true
	case "pid":
		return l.process.pid, true
	}
	return 0, false
}

func (l *line) tls(b []byte, p *rules.Part) []byte {
	text := ""
	if t := l.session.Client; t != nil {
		if text = t.Cipher; p.Text == "sslv" {
			text = t.Version
		}
	}
	return appendText(b, text, p.Flags)
}

// address appends a variable that is an address or a port.
func (l *line) address(b []byte, p *rules.Part) []byte {
	var a netip.AddrPort
	switch p.Text {
	case "ci", "cp":
		if l.record.Client.IsUnix() {
			return l.unixClient(b, p)
		}
		a = l.record.Client.IP
	case "fi", "fp":
		a = l.session.Destination
	case "bi", "bp":
		a = l.session.Local
	case "si", "sp":
		a = l.session.Remote
	default:
		panic("BUG: a variable without a value: %" + p.Text)
	}
	hex := p.Flags&rules.FlagHex != 0
	switch port := p.Text[1] == 'p'; {
	case !a.IsValid():
		return appendText(b, "", p.Flags)
	case port && hex:
		return fmt.Appendf(b, "%04X", a.Port())
	case port:
		return appendText(b, strconv.Itoa(int(a.Port())), p.Flags)
	case hex:
		return fmt.Appendf(b, "%X", a.Addr().Unmap().AsSlice())
	}
	return appendText(b, a.Addr().Unmap().WithZone("").String(), p.Flags)
}

// unixClient appends what stands for a client without an address: "unix", and the number of the listener.
func (l *line) unixClient(b []byte, p *rules.Part) []byte {
	if p.Text == "ci" {
		return appendText(b, "unix", p.Flags)
	}
	return appendText(b, strconv.Itoa(l.record.Bind.ID), p.Flags)
}

// appendDate appends the time of the client's connection in one of the ways.
func appendDate(b []byte, how string, at time.Time) []byte {
	switch how {
	case "T":
		return at.UTC().AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	case "Tl":
		return at.Local().AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	case "Ts":
		return strconv.AppendInt(b, at.Unix(), 10)
	case "ms":
		return fmt.Appendf(b, "%03d", at.Nanosecond()/int(time.Millisecond))
	}
	return at.Local().AppendFormat(b, "02/Jan/2006:15:04:05.000")
}
