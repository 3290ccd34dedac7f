package haproxy

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Confirm checks the descriptors of the streams in the snapshot of Second against what the kernel's
// tables said at the end of the window. A number that a dump prints may be stale: the descriptor was
// closed and the number reused. One whose addresses are others is replaced by the one that has them, or
// taken away, and the snapshot says so; one that cannot be checked is kept, and the snapshot says that.
func (d *Dumps) Confirm(w *evidence.Window) {
	if d.after == nil {
		return
	}
	unchecked, example := 0, ""
	for i := range d.after.Streams {
		e := &d.after.Streams[i]
		for _, end := range []struct {
			side          string
			fd            *int
			local, remote string
		}{
			{evidence.SideClient, &e.ClientFD, "", e.Client},
			{evidence.SideServer, &e.ServerFD, d.locals[e.ID], e.Upstream},
		} {
			if *end.fd < 0 {
				continue
			}
			fd, found := locate(w, *end.fd, end.local, end.remote)
			what := fmt.Sprintf("descriptor %d of the %s side of stream %s", *end.fd, end.side, e.ID)
			switch found {
			case unseen:
				if unchecked++; unchecked == 1 {
					example = what
				}
			case elsewhere:
				d.after.Unknown = append(d.after.Unknown, fmt.Sprintf("the descriptor of the %s side of "+
					"stream %s: HAProxy prints %d, which is not a connection with %s", end.side, e.ID,
					*end.fd, end.remote))
			}
			*end.fd = fd
		}
	}
	if unchecked == 0 {
		return
	}
	text := "whether " + example + " is still that"
	if unchecked > 1 {
		text += fmt.Sprintf(", and the same of %d more", unchecked-1)
	}
	d.after.Unknown = append(d.after.Unknown,
		text+": HAProxy may print stale numbers, and the kernel's table was not seen")
}

// location is what the kernel's table says of a printed descriptor.
type location uint8

const (
	unseen    location = iota // the table was not seen, or an address is not known
	here                      // it is the connection, or the only one that can be meant is
	elsewhere                 // it is not, and it is not known which is
)

// locate finds the descriptor of a connection, the printed one first; -1 when it is none.
func locate(w *evidence.Window, printed int, local, remote string) (int, location) {
	far, ok := address(remote)
	if w == nil || !ok {
		return printed, unseen
	}
	near, nearKnown := address(local)
	seen, match, matches := w.Hooks.Files.IsKnown(), -1, 0
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		socket, ok := d.Socket.Get()
		if !ok {
			continue
		}
		seen = seen || d.FD == printed
		if is, ok := address(socket.Remote); !ok || is != far {
			continue
		}
		if is, ok := address(socket.Local); nearKnown && (!ok || is != near) {
			continue
		}
		if d.FD == printed {
			return printed, here
		}
		match = d.FD
		matches++
	}
	switch {
	case !seen:
		return printed, unseen
	case matches == 1 && nearKnown:
		return match, here
	}
	return -1, elsewhere
}

// address reads "address:port" as HAProxy prints it, IPv6 without brackets, and as the kernel's tables are
// written.
func address(text string) (netip.AddrPort, bool) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(strings.Trim(text[:at], "[]"))
	port, ok := portNumber(text[at+1:])
	if err != nil || !ok {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), port), true
}

func portNumber(text string) (uint16, bool) {
	n := number([]byte(text))
	return uint16(n), n > 0 && n <= 65535
}
