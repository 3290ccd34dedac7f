package config

import "strconv"

// socketOptions are the options that bind and "stats socket" lines have in common.
var socketOptions = setOf("mode user group uid gid name id")

// socket is what they set.
type socket struct {
	unix UnixAttributes
	name string
	id   int
	// unixOption is the first option that only a unix socket can have, "" when there is none.
	unixOption string
}

// readSocketOption reads one of socketOptions into to.
func (p *parameters) readSocketOption(option string, to *socket) {
	switch option {
	case "id":
		to.id = p.numberValue("id", 1, maxCount)
		return
	case "name":
		to.name, _ = p.value("name")
		return
	}
	if to.unixOption == "" {
		to.unixOption = option
	}
	text, ok := p.value(option)
	if !ok {
		return
	}
	u := &to.unix
	switch option {
	case "mode":
		mode, err := strconv.ParseUint(text, 8, 32)
		if err != nil || mode == 0 || mode > 0o777 {
			p.errorf(`"%s ... mode": %s is not an octal mode between 1 and 777`, p.label, quote(text))
			return
		}
		u.Mode = uint32(mode)
	case "user":
		u.User = text
	case "group":
		u.Group = text
	case "uid":
		u.UID, _ = p.number(p.label+" ... uid", text, 0, maxUserID)
	case "gid":
		u.GID, _ = p.number(p.label+" ... gid", text, 0, maxUserID)
	}
}

// newSocket returns the settings of a line without options.
func newSocket() socket { return socket{unix: UnixAttributes{UID: -1, GID: -1}} }

// checkSocket reports options that contradict each other or the addresses they are for.
func (p *parameters) checkSocket(set socket, addresses []Address) {
	if set.unix.User != "" && set.unix.UID >= 0 {
		p.errorf(`%q: "user" and "uid" contradict each other: use one of them`, p.label)
	}
	if set.unix.Group != "" && set.unix.GID >= 0 {
		p.errorf(`%q: "group" and "gid" contradict each other: use one of them`, p.label)
	}
	for _, a := range addresses {
		if a.Kind != AddressUnix && a.Kind != AddressFD && set.unixOption != "" {
			p.warnf("%q: %q has no effect on %v, which is not a unix socket", p.label, set.unixOption, a)
			return
		}
	}
}
