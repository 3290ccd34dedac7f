package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
)

// The lines with which the first process of a machine tells how far it is.
const (
	markBegin = "@@begin "
	markEnd   = "@@end "
	markDone  = "@@done"
)

// A machine has a console for the kernel, which goes to a file, and a line for the programs.
const (
	kernelConsole = "ttyS0"
	programLine   = "ttyS1"
)

// setup is what the first process does before the programs run. Limits are Debian's own; what is mounted is
// what systemd mounts.
const setup = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t securityfs security /sys/kernel/security
mount -t tracefs tracing /sys/kernel/tracing
ip link set lo up
hostname machine
# Debian's own 3 refuses samples to all but CAP_SYS_ADMIN; the tests expect the kernel's 2.
echo 2 >/proc/sys/kernel/perf_event_paranoid
ulimit -Hn 1048576
ulimit -Sn 1024
exec >/dev/` + programLine + ` 2>&1 </dev/null
`

// initScript is the first process of a machine: it runs the programs one after the other.
func initScript(programs []program) string {
	var b strings.Builder
	b.WriteString(setup)
	for _, p := range programs {
		fmt.Fprintf(&b, "mkdir /tmp/%[1]s.d\ncd /tmp/%[1]s.d\necho '%[2]s%[1]s'\n/programs/%[1]s", p.name,
			markBegin)
		for _, a := range p.inMachine() {
			fmt.Fprintf(&b, " '%s'", a)
		}
		// A program may leave its last line open.
		fmt.Fprintf(&b, "\ncode=$?\necho\necho '%s%s' $code\n", markEnd, p.name)
	}
	// Whatever the line still holds must be out before the power goes.
	fmt.Fprintf(&b, "echo '%s'\nstty -F /dev/%s sane\nsync\npoweroff -f\n", markDone, programLine)
	return b.String()
}

// writeInitramfs writes the initial file system of a machine.
func writeInitramfs(to string, programs []program) (err error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("making an initial file system: %w (package busybox-static)", err)
	}
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("making an initial file system: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := archive{w: f}
	for _, d := range []string{"bin", "dev", "etc", "proc", "programs", "sys", "tmp"} {
		a.add(d, modeDirectory|0o755, nil)
	}
	a.add("etc/passwd", modeFile|0o644, []byte("root:x:0:0::/tmp:/bin/sh\n"))
	a.add("init", modeFile|0o755, []byte(initScript(programs)))
	a.addFile("bin/busybox", busybox)
	for _, p := range programs {
		a.addFile(path.Join("programs", p.name), p.path)
	}
	a.add("TRAILER!!!", 0, nil)
	if a.err != nil {
		return fmt.Errorf("making an initial file system: %w", a.err)
	}
	return nil
}

// The types of files in an archive: include/uapi/linux/stat.h.
const (
	modeDirectory = 0o040000
	modeFile      = 0o100000
)

// archive writes the format "newc" of Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	w     io.Writer
	inode int
	err   error
}

func (a *archive) addFile(name, from string) {
	data, err := os.ReadFile(from)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.add(name, modeFile|0o755, data)
}

func (a *archive) add(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	var b bytes.Buffer
	b.WriteString("070701")
	// Inode, mode, user, group, links, time, size, four device numbers, length of the name, checksum.
	for _, n := range []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(&b, "%08X", n)
	}
	b.WriteString(name)
	b.WriteByte(0)
	pad(&b)
	b.Write(data)
	pad(&b)
	_, a.err = a.w.Write(b.Bytes())
}

// pad fills up to a multiple of four bytes.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
