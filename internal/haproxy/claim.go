package haproxy

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// maxAsked is how many descriptors a process is asked about. For each line of "show fd" HAProxy may halt all
// of its threads, so that the whole of a large table is never asked for.
const maxAsked = 8

// leastDeliveries is how often a descriptor was delivered at least, and deliveriesPerCall how often for each
// call on it that moved something, when a finding may be about it. Both ask for more than the rules need.
const (
	leastDeliveries   = 50
	deliveriesPerCall = 5
)

// Questionable returns the descriptors that a finding may be about: those of the streams that the process
// has named, and those that the kernel delivers again and again, the most frequent first.
//
// There are none without a second dump: what is said of them would be of no use.
func (d *Dumps) Questionable(w *evidence.Window) []int {
	if d.after == nil {
		return nil
	}
	var all []int
	add := func(fd int) {
		if fd >= 0 && len(all) < maxAsked && !slices.Contains(all, fd) {
			all = append(all, fd)
		}
	}
	var restless []evidence.Descriptor
	if w != nil {
		for _, v := range w.Descriptors {
			useful := v.Accepts + v.Closes + useful(&v.Read) + useful(&v.Write)
			if n := v.Delivered(); n >= leastDeliveries && n >= deliveriesPerCall*useful {
				restless = append(restless, v)
			}
		}
	}
	slices.SortStableFunc(restless, func(a, b evidence.Descriptor) int {
		return cmp.Compare(b.Delivered(), a.Delivered())
	})
	for i := range restless {
		add(restless[i].FD)
	}
	for i := range d.after.Streams {
		add(d.after.Streams[i].ClientFD)
		add(d.after.Streams[i].ServerFD)
	}
	return all
}

// useful is how many calls moved bytes.
func useful(io *evidence.IO) uint64 {
	return io.Calls - min(io.Calls, io.Again+io.Zero+io.Reset+io.Pipe+io.Errors)
}

// Claims reads the answers to "show fd N" for descriptors and enters into the snapshot of Second what they
// say, if the kernel's table agrees that they are about what is open there.
func (d *Dumps) Claims(r io.Reader, fds []int, w *evidence.Window) error {
	if d.after == nil {
		return nil
	}
	said := map[int]bool{}
	err := ReadDescriptors(r, func(v *Descriptor) {
		if slices.Contains(fds, v.FD) && !said[v.FD] { // a version that dumps all of them for each
			said[v.FD] = true
			d.claim(v, w)
		}
	})
	for _, fd := range fds {
		if !said[fd] && err == nil {
			d.unclaimed(fd, "it says nothing")
		}
	}
	return err
}

// Unclaimed notes why HAProxy said nothing of its descriptors.
func (d *Dumps) Unclaimed(why error) {
	if d.after != nil {
		d.after.Unknown = append(d.after.Unknown,
			fmt.Sprintf("what HAProxy says of its descriptors: %v", why))
	}
}

func (d *Dumps) claim(v *Descriptor, w *evidence.Window) {
	socket, known := socketOf(w, v.FD)
	if !known {
		d.unclaimed(v.FD, "what is open there was not seen")
		return
	}
	if !v.fits(&socket) {
		d.unclaimed(v.FD, "it is about something else than what is open there")
		return
	}
	d.after.Claims = append(d.after.Claims, evidence.Claim{
		FD: v.FD, Reads: v.Reads, Writes: v.Writes, Events: v.Events, Handler: v.Handler, Threads: v.Threads,
		Frontend: v.Frontend, Server: v.Server, Suspicious: v.Suspicious,
	})
}

func (d *Dumps) unclaimed(fd int, why string) {
	d.after.Unknown = append(d.after.Unknown, fmt.Sprintf("what HAProxy says of descriptor %d: %s", fd, why))
}

func socketOf(w *evidence.Window, fd int) (evidence.Socket, bool) {
	if w != nil {
		for i := range w.Descriptors {
			if w.Descriptors[i].FD == fd {
				return w.Descriptors[i].Socket.Get()
			}
		}
	}
	return evidence.Socket{}, false
}

// fits reports whether a line can be about what is open under its number. Versions before 2.4 print no ports,
// so that only what it is can be compared.
func (v *Descriptor) fits(s *evidence.Socket) bool {
	listening := v.Listening != ""
	switch {
	case s.Kind == "tcp":
		if v.Frontend == "" && v.Server == "" || (s.State == "LISTEN") != listening {
			return false
		}
		return portFits(v.LocalPort, s.Local) && portFits(v.RemotePort, s.Remote)
	case s.Kind == "unix" || s.Kind == "udp":
		return (v.Frontend != "" || v.Server != "") && v.RemotePort == 0
	}
	return s.Kind != evidence.SocketClosed && !listening && v.Frontend == "" && v.Server == ""
}

func portFits(printed int, text string) bool {
	is, ok := address(text)
	return printed == 0 || strings.HasSuffix(text, ":0") || ok && int(is.Port()) == printed
}
