package control

import (
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// humanTime prints a duration as HAProxy does: whole units, the two largest that are not zero, "?" for one
// below zero.
func humanTime(d time.Duration) string {
	if d < 0 {
		return "?"
	}
	seconds := int64(d / time.Second)
	if seconds == 0 {
		return "0s"
	}
	text, shown := "", 0
	for _, unit := range [...]struct {
		name    string
		seconds int64
	}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}} {
		if n := seconds / unit.seconds; n > 0 && shown < 2 {
			text += strconv.FormatInt(n, 10) + unit.name
			shown++
		}
		seconds %= unit.seconds
	}
	return text
}

// until prints the time to a deadline; a deadline that has passed is "?", none is what unset says.
func until(deadline, now ktime.Time, unset string) string {
	if !deadline.IsSet() {
		return unset
	}
	return humanTime(deadline.Sub(now))
}

// expiry prints the time to the deadline of a task: one that has passed is "<PAST>", the mark of the
// founding bug.
func expiry(deadline, now ktime.Time) string {
	if deadline.Passed(now) {
		return "<PAST>"
	}
	return until(deadline, now, "<NEVER>")
}

// protocol is HAProxy's name for the protocol of an address.
func protocol(a sys.Address) string {
	switch {
	case a.IsUnix():
		return "unix_stream"
	case a.IP.Addr().Is4():
		return "tcpv4"
	}
	return "tcpv6"
}

// family is the name that "show fd" has for the family of an address.
func family(a sys.Address) string {
	switch {
	case a.IsUnix():
		return "unix"
	case a.IP.Addr().Is4():
		return "ipv4"
	}
	return "ipv6"
}

// printAddress prints "address:port", IPv6 addresses without brackets, or for a unix socket the text given
// for it.
func printAddress(a sys.Address, unix string) string {
	if a.IsUnix() {
		return unix
	}
	return a.IP.Addr().WithZone("").String() + ":" + strconv.Itoa(int(a.IP.Port()))
}

// unmapped returns an address with IPv4 addresses as such.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// threadMask prints the bits of workers, counted from 1, in hexadecimal.
func threadMask(workers ...int) string {
	if len(workers) == 1 && workers[0] <= 64 {
		return hexadecimal(1 << (workers[0] - 1))
	}
	var mask big.Int
	for _, w := range workers {
		mask.SetBit(&mask, w-1, 1)
	}
	return fmt.Sprintf("%#x", &mask)
}

// pointers gives numbers to the objects of the configuration, which stand where HAProxy prints addresses:
// the same object has the same number wherever it is printed, and they are below those of streams.
type pointers map[any]string

// The numbers look like addresses: not small, and some way apart.
const (
	firstPointer = 0x10000
	pointerStep  = 0x100
)

func newPointers(c *config.Config, sockets []Socket) pointers {
	p := pointers{}
	add := func(object any) { p[object] = hexadecimal(firstPointer + uint64(len(p))*pointerStep) }
	for _, role := range [...]string{"accept", "connection", "waker"} {
		add(role)
	}
	for _, s := range sockets {
		add(s.Config)
	}
	for _, proxy := range c.Proxies {
		for _, b := range proxy.Binds {
			add(b)
		}
		for _, s := range proxy.Servers {
			add(s)
		}
	}
	return p
}

// of prints the number of an object; one that is nil or not known is HAProxy's null pointer.
func (p pointers) of(object any) string {
	if text, ok := p[object]; ok {
		return text
	}
	return null
}

// hexadecimal prints a number as "%#x" does, at a third of the cost: a dump has 17 of them for each stream.
func hexadecimal(n uint64) string {
	var text [len("0x") + 16]byte
	return string(strconv.AppendUint(append(text[:0], "0x"...), n, 16))
}

// null is how C prints a null pointer.
const null = "(nil)"

// part is a part of a stream that HAProxy prints with an address of its own.
type part uint64

const (
	partTask part = iota + 1
	partFront
	partBack
	partFrontEndpoint
	partBackEndpoint
	partFrontConnection
	partBackConnection
	partRequest
	partResponse
	partRequestBuffer
	partResponseBuffer
	partRequestData
	partResponseData
	partPending
)

// partShift is where the number of the part goes: the upper bits of the slot in a stream's id, which are zero
// with fewer than a million streams per worker.
const partShift = 20

// pointerOf prints what stands for the address of a part of the stream with that id. It is derived from the
// id, so that all lines of a stream agree and it can be told whose part it is.
func pointerOf(id uint64, p part) string { return hexadecimal(id ^ uint64(p)<<partShift) }
