package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
)

// firstFreePort is the lowest port that needs no privilege, unless net.ipv4.ip_unprivileged_port_start says
// otherwise.
const firstFreePort = 1024

// statsBacklog is the queue of connections that wait for a place at the runtime API or the HTTP endpoints:
// bursts of clients, each of which is answered soon. HAProxy takes "stats maxconn", 10 by default, for it.
const statsBacklog = 32

// listen opens every listener of the configuration.
func (p *Prepared) listen(l lookup) error {
	var wrong []error
	for _, proxy := range p.config.Proxies {
		if !proxy.IsFrontend || proxy.Disabled {
			continue
		}
		for _, bind := range proxy.Binds {
			fd, err := p.open(l, &bind.Address, &bind.Unix, sys.ListenOptions{
				Backlog: p.backlog(proxy, bind), V6Only: bind.V6Only, V4V6: bind.V4V6,
				KeepAlive: proxy.ClientKeepAlive,
			})
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: frontend %q: %w", bind.Position, proxy.Name, err))
				continue
			}
			p.Listeners = append(p.Listeners, engine.Listener{
				FD: fd, Proxy: proxy, Bind: bind, TLS: p.listenerTLS(bind),
			})
		}
	}
	for i := range p.config.Global.StatsSockets {
		s := &p.config.Global.StatsSockets[i]
		fd, err := p.open(l, &s.Address, &s.Unix, sys.ListenOptions{Backlog: statsBacklog})
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: stats socket: %w", s.Position, err))
			continue
		}
		p.StatsSockets = append(p.StatsSockets, StatsSocket{FD: fd, Config: s})
	}
	if err := p.listenAdmin(l); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// adminMode is the permission of a unix socket for the HTTP endpoints: they have no levels.
const adminMode = 0o600

// listenAdmin opens the socket of the HTTP endpoints, if they are asked for.
func (p *Prepared) listenAdmin(l lookup) error {
	w := &p.config.Global.Whyspin
	if w.Admin.Kind == config.AddressNone {
		return nil
	}
	attributes := config.UnixAttributes{Mode: adminMode, UID: -1, GID: -1}
	fd, err := p.open(l, &w.Admin, &attributes, sys.ListenOptions{Backlog: statsBacklog})
	if err != nil {
		return fmt.Errorf("%s: whyspin.admin: %w", w.AdminPos, err)
	}
	file := os.NewFile(uintptr(fd), "whyspin.admin")
	defer file.Close() // the listener has a copy
	if p.Admin, err = net.FileListener(file); err != nil {
		return fmt.Errorf("%s: whyspin.admin: %w", w.AdminPos, err)
	}
	return nil
}

// backlog is the queue length of a listener: as configured, or the number of connections the frontend takes,
// as in HAProxy.
func (p *Prepared) backlog(proxy *config.Proxy, bind *config.Bind) int {
	for _, n := range [...]int{bind.Backlog, proxy.Backlog, proxy.MaxConn} {
		if n > 0 {
			return n
		}
	}
	return max(p.MaxConn, 1)
}

// open opens one listener, or takes the one that was inherited.
func (p *Prepared) open(
	l lookup, a *config.Address, u *config.UnixAttributes, o sys.ListenOptions,
) (int, error) {
	if a.Kind == config.AddressFD {
		return a.FD, sys.InheritedListener(a.FD)
	}
	at, err := l.address(a)
	if err != nil {
		return -1, err
	}
	o.Mode, o.Replace = u.Mode, p.options.Replaces
	if o.UID, o.GID, err = ownerOf(u); err != nil {
		return -1, err
	}
	fd, taken, err := p.inherited.take(at, o)
	if !taken {
		fd, err = sys.Listen(at, o)
	}
	if err != nil {
		return -1, withRemedy(at, err)
	}
	if a.Kind == config.AddressUnix && !a.Abstract {
		p.created = append(p.created, socketFileAt(a.Path))
	}
	if p.Handover == nil {
		return fd, nil
	}
	if err := p.Handover.add(at, fd); err != nil {
		sys.Linux{}.Close(fd)
		return -1, err
	}
	return fd, nil
}

// withRemedy adds to an error of listening what to do about it.
func withRemedy(at sys.Address, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission) && !at.IsUnix() && at.IP.Port() < firstFreePort:
		return fmt.Errorf("%w (ports below %d take root or CAP_NET_BIND_SERVICE)", err, firstFreePort)
	case errors.Is(err, syscall.EADDRINUSE) && !at.IsUnix():
		return fmt.Errorf("%w (another process listens there: see ss -ltnp)", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w (no interface of this machine has that address)", err)
	}
	return err
}

// ownerOf returns the owner of a unix socket file, -1 for what is to stay.
func ownerOf(u *config.UnixAttributes) (uid, gid int, err error) {
	uid, gid = u.UID, u.GID
	if u.User != "" {
		if uid, _, err = findUser(u.User); err != nil {
			return 0, 0, err
		}
	}
	if u.Group != "" {
		if gid, err = findGroup(u.Group); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

// socketFile is the file of a unix socket of this process.
type socketFile struct {
	path string
	info os.FileInfo // nil when somebody has taken it away already
}

func socketFileAt(path string) socketFile {
	info, err := os.Lstat(path)
	if err != nil {
		info = nil
	}
	return socketFile{path, info}
}

// remove removes the file, unless it is another one by now: that of the process that has replaced this one.
// It may have got the same number, if the socket of the file that it replaced was closed.
func (f socketFile) remove() {
	info, err := os.Lstat(f.path)
	if err == nil && f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) {
		// What cannot be removed is replaced by the next start.
		_ = os.Remove(f.path)
	}
}
