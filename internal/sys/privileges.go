package sys

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Credentials are the user and the groups of the process, and of each of its threads.
type Credentials struct {
	// Real, effective and saved ids.
	UIDs, GIDs [3]int
	// Groups are the supplementary groups.
	Groups []int
}

// CurrentCredentials reads the credentials of the calling thread.
func CurrentCredentials() (Credentials, error) {
	var c Credentials
	c.UIDs[0], c.UIDs[1], c.UIDs[2] = unix.Getresuid()
	c.GIDs[0], c.GIDs[1], c.GIDs[2] = unix.Getresgid()
	groups, err := syscall.Getgroups()
	if err != nil {
		return c, fmt.Errorf("reading the supplementary groups: %w", err)
	}
	c.Groups = groups
	return c, nil
}

// Is reports whether every id is that one and there is no supplementary group.
func (c Credentials) Is(uid, gid int) bool {
	return c.UIDs == [3]int{uid, uid, uid} && c.GIDs == [3]int{gid, gid, gid} && len(c.Groups) == 0
}

// HasUID reports whether any of the user ids is that one.
func (c Credentials) HasUID(uid int) bool { return slices.Contains(c.UIDs[:], uid) }

// DropGroups removes all supplementary groups, from every thread. It needs CAP_SETGID.
func DropGroups() error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("dropping the supplementary groups: %w", err)
	}
	return nil
}

// SetGID sets the real, effective and saved group of every thread. It needs CAP_SETGID.
func SetGID(gid int) error {
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("changing to group %d: %w", gid, err)
	}
	return nil
}

// SetUID sets the real, effective and saved user of every thread. It needs CAP_SETUID; after a change from
// root to another user the kernel has taken all capabilities away.
func SetUID(uid int) error {
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("changing to user %d: %w", uid, err)
	}
	return nil
}

// ChangeRoot makes a directory the root of the process and its working directory. It needs CAP_SYS_CHROOT.
func ChangeRoot(directory string) error {
	if err := unix.Chroot(directory); err != nil {
		return fmt.Errorf("changing the root directory to %q: %w", directory, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root directory %q: %w", directory, err)
	}
	return nil
}

// SetDumpable lets the process be dumped and traced by its own user again, which the kernel stops when the
// process changes its user (prctl(2), PR_SET_DUMPABLE).
func SetDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process dumpable: %w", err)
	}
	return nil
}

// CloseOnExec makes a descriptor end with the present program, or not.
func CloseOnExec(fd int, yes bool) error {
	flags := 0
	if yes {
		flags = unix.FD_CLOEXEC
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags); err != nil {
		return fmt.Errorf("changing the flags of descriptor %d: %w", fd, err)
	}
	return nil
}

// ReplaceDescriptor makes the descriptor number to stand for the file that from stands for, closing what it
// was before.
func ReplaceDescriptor(from, to int) error {
	if err := unix.Dup3(from, to, 0); err != nil {
		return fmt.Errorf("replacing descriptor %d: %w", to, err)
	}
	return nil
}

// MemoryFile returns a file that exists in memory alone and is closed when another program is executed.
func MemoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// IsTerminal reports whether a descriptor leads to a terminal.
func IsTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
