package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// identity is who the process becomes, -1 for what stays as it is.
type identity struct {
	uid, gid int
	chroot   string
}

// findIdentity finds out who the process is to become, while the files of users can still be read.
func (p *Prepared) findIdentity() error {
	id, err := identityOf(&p.config.Global)
	p.identity = id
	return errors.Join(err, checkRoot(&p.config.Global))
}

// identityOf looks up the names of the process's user and group.
func identityOf(g *config.Global) (identity, error) {
	id := identity{uid: g.UID, gid: g.GID, chroot: g.Chroot}
	var wrong []error
	primary := -1
	if g.User != "" {
		var err error
		id.uid, primary, err = findUser(g.User)
		wrong = append(wrong, at(g.UserPos, err))
	}
	if g.Group != "" {
		var err error
		id.gid, err = findGroup(g.Group)
		wrong = append(wrong, at(g.GroupPos, err))
	}
	if id.uid > 0 && id.gid < 0 && primary >= 0 {
		// HAProxy would keep the group of root.
		id.gid = primary
	}
	return id, errors.Join(wrong...)
}

// checkRoot reports a root directory that the process cannot change to.
func checkRoot(g *config.Global) error {
	if g.Chroot == "" {
		return nil
	}
	info, err := os.Stat(g.Chroot)
	switch {
	case err != nil:
		return at(g.ChrootPos, fmt.Errorf("chroot: %w", err))
	case !info.IsDir():
		return at(g.ChrootPos, fmt.Errorf("chroot: %q is not a directory", g.Chroot))
	}
	return nil
}

// at puts the place in the configuration before an error; nil stays nil.
func at(where config.Position, err error) error {
	if text := where.String(); err != nil && text != "" {
		return fmt.Errorf("%s: %w", text, err)
	}
	return err
}

// findUser returns a user's id and primary group.
func findUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return -1, -1, fmt.Errorf("user %q: %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return -1, -1, fmt.Errorf("user %q: %w", name, err)
	}
	return uid, gid, nil
}

func findGroup(name string) (gid int, err error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, fmt.Errorf("group %q: %w", name, err)
	}
	if gid, err = strconv.Atoi(g.Gid); err != nil {
		return -1, fmt.Errorf("group %q: %w", name, err)
	}
	return gid, nil
}

// pidFileMode lets everybody read the file and only its owner write it.
const pidFileMode = 0o644

// WritePIDFile writes the configuration's pidfile, if it asks for one. A file, or link, that is in its place
// is replaced. Nobody removes it at the end: the process has no right to by then.
func (p *Prepared) WritePIDFile() error {
	name := p.config.Global.PIDFile
	if name == "" {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pidfile: %w", err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, pidFileMode)
	if err != nil {
		return fmt.Errorf("pidfile: %w", err)
	}
	_, err = fmt.Fprintf(file, "%d\n", os.Getpid())
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("pidfile: %w", err)
	}
	return nil
}

// DropPrivileges changes the root directory, drops the supplementary groups, and changes group and user, in
// that order, as the configuration asks, and makes sure that it happened. On error the process must end: it
// may have lost half of its rights.
//
// After a change of user the kernel makes the process not dumpable: its files in /proc belong to root, it
// leaves no core, and nobody but root may trace it. That is left so, as it protects what is in memory,
// except when the configuration asks for an abort with a core dump.
func (p *Prepared) DropPrivileges() error {
	loadTimeZone()
	id := &p.identity
	if id.chroot != "" {
		if err := sys.ChangeRoot(id.chroot); err != nil {
			return err
		}
	}
	if err := id.assume(); err != nil {
		return err
	}
	if p.config.Global.Whyspin.SpinAction == config.SpinAbort {
		return sys.SetDumpable()
	}
	return nil
}

// loadTimeZone makes the local time known, whose file is out of reach in another root directory.
func loadTimeZone() { _, _ = time.Now().Zone() }

// assume makes the process who it is to be.
func (id *identity) assume() error {
	if id.uid < 0 && id.gid < 0 {
		return nil
	}
	before, err := sys.CurrentCredentials()
	if err != nil {
		return err
	}
	want := *id
	if want.uid < 0 {
		want.uid = before.UIDs[1]
	}
	if want.gid < 0 {
		want.gid = before.GIDs[1]
	}
	if !before.HasUID(0) {
		return want.mustBe(before)
	}
	if err := sys.DropGroups(); err != nil {
		return err
	}
	if err := sys.SetGID(want.gid); err != nil {
		return err
	}
	if err := sys.SetUID(want.uid); err != nil {
		return err
	}
	return want.verify()
}

// mustBe is for a process that is not root and can change nothing: it must be who it is to be already.
func (id *identity) mustBe(now sys.Credentials) error {
	now.Groups = nil // they are the caller's choice, and cannot be dropped
	if !now.Is(id.uid, id.gid) {
		return fmt.Errorf("changing to user %d and group %d takes root, the process runs as %d and %d",
			id.uid, id.gid, now.UIDs[1], now.GIDs[1])
	}
	return nil
}

// verify makes sure that the change happened and that there is no way back.
func (id *identity) verify() error {
	after, err := sys.CurrentCredentials()
	if err != nil {
		return err
	}
	if !after.Is(id.uid, id.gid) {
		return fmt.Errorf("after changing to user %d and group %d the process has users %v, groups %v and %v",
			id.uid, id.gid, after.UIDs, after.GIDs, after.Groups)
	}
	if id.uid != 0 && sys.SetUID(0) == nil {
		return fmt.Errorf("after changing to user %d the process could become root again", id.uid)
	}
	return nil
}
