package accesslog

import (
	"errors"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// appendBody appends the text of an entry without header and line end.
func appendBody(b []byte, e *entry, process *processFacts) []byte {
	switch {
	case e.record == nil:
		return appendPrintable(b, e.text)
	case e.record.Event == engine.RecordConnect:
		return appendConnect(b, e.record)
	case e.record.Event == engine.RecordHandshake:
		return appendHandshake(b, e.record)
	case e.record.Frontend.LogFormat != nil:
		return appendFormat(b, e.record.Frontend.LogFormat, e.record, process)
	}
	return appendTCP(b, e.record)
}

// appendPrintable appends text with control characters as '#' and two hexadecimal digits, as HAProxy logs
// them, so that a message stays one line.
func appendPrintable(b []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		if c < ' ' || c == 0x7f {
			b = append(b, '#', digits[c>>4], digits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

// appendTCP appends the line of "option tcplog" (HAProxy's configuration manual, section 8.2.2):
//
//	%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq
func appendTCP(b []byte, r *engine.Record) []byte {
	asap := r.Event == engine.RecordEstablished
	b = appendClient(b, r)
	b = r.Accepted.Local().AppendFormat(b, " [02/Jan/2006:15:04:05.000] ")
	b = append(b, r.Frontend.Name...)
	if r.TLS {
		b = append(b, '~')
	}
	b = append(b, ' ')
	b = append(b, backendName(r)...)
	b = append(b, '/')
	b = append(b, serverName(r)...)
	b = appendMilliseconds(append(b, ' '), r.Queue)
	b = appendMilliseconds(append(b, '/'), r.Connect)
	b = appendMilliseconds(appendPlus(append(b, '/'), asap), r.Total)
	b = strconv.AppendUint(appendPlus(append(b, ' '), asap), r.ToClient, 10)
	b = append(b, ' ')
	b = append(b, r.Ending.String()...)
	b = appendCount(append(b, ' '), r.ProcessConns)
	b = appendCount(append(b, '/'), r.FrontendConns)
	b = appendCount(append(b, '/'), backendConns(r))
	b = appendCount(append(b, '/'), r.ServerConns)
	b = appendCount(appendPlus(append(b, '/'), r.Redispatched), r.Retries)
	b = appendCount(append(b, ' '), r.ServerQueue)
	return appendCount(append(b, '/'), r.BackendQueue)
}

// appendConnect appends the line of a proxy without "option tcplog", written when the client was accepted.
// A client of a unix socket has no address, and only the listener is named.
func appendConnect(b []byte, r *engine.Record) []byte {
	if r.Client.IsUnix() {
		b = append(b, "Connect to "...)
	} else {
		b = append(b, "Connect from "...)
		b = appendClient(b, r)
		b = append(b, " to "...)
	}
	b = appendAddress(b, r.Front, r.Bind.ID)
	b = append(b, " ("...)
	b = append(b, r.Frontend.Name...)
	return append(b, "/TCP)"...)
}

// appendHandshake appends the line of a client whose TLS handshake did not come to its end (HAProxy's
// configuration manual, section 8.2.5): client, time, frontend and listener, and a message.
func appendHandshake(b []byte, r *engine.Record) []byte {
	b = appendClient(b, r)
	b = r.Accepted.Local().AppendFormat(b, " [02/Jan/2006:15:04:05.000] ")
	b = append(append(b, r.Frontend.Name...), '/')
	if r.Bind.Name != "" {
		b = append(b, r.Bind.Name...)
	} else {
		b = appendCount(b, r.Bind.ID)
	}
	failure, tls := errors.AsType[*tlsconn.Error](r.Handshake)
	switch {
	case r.Handshake != nil && !tls:
		return append(append(b, ": "...), r.Handshake.Error()...)
	case r.Ending.By == 'P':
		// It was complete, and a rule about the session has refused the client.
		return append(b, ": Success"...)
	case r.Ending.By == 'c':
		return append(b, ": Timeout during SSL handshake"...)
	case failure != nil && (failure.Cause == tlsconn.CauseClosed || failure.Cause == tlsconn.CauseCut):
		return append(b, ": Connection closed during SSL handshake"...)
	}
	return append(b, ": SSL handshake failure"...)
}

func appendClient(b []byte, r *engine.Record) []byte {
	return appendAddress(b, r.Client, r.Bind.ID)
}

// appendAddress appends "address:port", IPv6 addresses without brackets as HAProxy writes them, or "unix:"
// and the number of the listener.
func appendAddress(b []byte, a sys.Address, unixID int) []byte {
	if a.IsUnix() {
		return appendCount(append(b, "unix:"...), unixID)
	}
	b = a.IP.Addr().WithZone("").AppendTo(b)
	return appendCount(append(b, ':'), int(a.IP.Port()))
}

// backendName is the frontend's when there is no backend.
func backendName(r *engine.Record) string {
	if r.Backend == nil {
		return r.Frontend.Name
	}
	return r.Backend.Name
}

func serverName(r *engine.Record) string {
	if r.Server == nil {
		return "<NOSRV>"
	}
	return r.Server.Name
}

// backendConns is the backend's other streams for an ended one: HAProxy counts a stream out of its backend
// before it logs, but out of its frontend and the process only afterwards.
func backendConns(r *engine.Record) int {
	if r.Event == engine.RecordEnd && r.Backend != nil {
		return max(r.BackendConns-1, 0)
	}
	return r.BackendConns
}

func appendPlus(b []byte, is bool) []byte {
	if is {
		return append(b, '+')
	}
	return b
}

func appendCount(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

// appendMilliseconds appends whole milliseconds, or -1 for what did not happen.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	if d < 0 {
		return append(b, "-1"...)
	}
	return strconv.AppendInt(b, d.Milliseconds(), 10)
}
