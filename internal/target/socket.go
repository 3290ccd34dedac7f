package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// ErrNoAPI is the error for a proxy whose runtime API was not found.
var ErrNoAPI = errors.New("no stats socket was found")

// FindAPI finds the runtime API of a proxy: it reads the configuration files on the command line of the
// process and asks each stats socket in them who is there. Only those: a question to any other socket that
// the process listens on would be a connection to whatever it proxies.
func FindAPI(ctx context.Context, pid int) (API, Info, error) {
	directory, err := Directory(pid)
	if err != nil {
		return API{}, Info{}, err
	}
	addresses, failed := statsSockets(directory)
	for _, address := range addresses {
		a := API{reach(directory, address)}
		info, err := a.Info(ctx)
		if err == nil && info.PID != 0 && info.PID != pid && sameNamespace(directory, "pid") {
			err = fmt.Errorf("asking %s: process %d answers", a.Address, info.PID)
		}
		if err == nil {
			return a, info, nil
		}
		failed = append(failed, err)
	}
	return API{}, Info{}, errors.Join(append([]error{fmt.Errorf("process %d: %w", pid, ErrNoAPI)},
		failed...)...)
}

// statsSockets returns the addresses of the stats sockets in the configuration of a process.
func statsSockets(directory string) (addresses []string, failed []error) {
	files, failed := configuration(directory)
	environment := environ(directory)
	c, err := config.Parse(files, config.Options{
		LookupEnv: func(name string) (string, bool) {
			value, ok := environment[name]
			return value, ok
		},
		AllowFaults: true,
	})
	if err != nil {
		// A configuration with keywords that whyspin does not know, of a HAProxy, still says where its
		// socket is.
		return scanSockets(files), failed
	}
	for _, s := range c.Global.StatsSockets {
		if text := dialable(s.Address); text != "" {
			addresses = append(addresses, text)
		}
	}
	return addresses, failed
}

// dialable returns the address in the form that API takes, or nothing for a descriptor.
func dialable(a config.Address) string {
	switch {
	case a.Kind == config.AddressUnix && a.Abstract:
		return "@" + a.Path
	case a.Kind == config.AddressUnix:
		return a.Path
	case a.Kind == config.AddressIP && a.Wildcard:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	case a.Kind == config.AddressIP:
		return net.JoinHostPort(a.IP.String(), strconv.Itoa(a.Port))
	case a.Kind == config.AddressName:
		return net.JoinHostPort(a.Name, strconv.Itoa(a.Port))
	}
	return ""
}

// scanSockets finds the unix sockets of the "stats socket" lines by their words alone.
func scanSockets(files []config.File) []string {
	var paths []string
	for _, f := range files {
		for line := range bytes.Lines(f.Text) {
			words := strings.Fields(string(line))
			if len(words) < 3 || words[0] != "stats" || words[1] != "socket" {
				continue
			}
			path := strings.Trim(strings.TrimPrefix(words[2], "unix@"), `"'`)
			if strings.HasPrefix(path, "/") && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// configuration reads the configuration files that the command line of a process names.
func configuration(directory string) (files []config.File, failed []error) {
	arguments := commandLine(directory)
	working, err := os.Readlink(filepath.Join(directory, "cwd"))
	if err != nil {
		working = "/"
	}
	for i := 0; i+1 < len(arguments); i++ {
		if arguments[i] == "-C" {
			working = join(working, arguments[i+1])
		}
	}
	for i := 0; i+1 < len(arguments); i++ {
		if arguments[i] != "-f" && arguments[i] != "--" {
			continue
		}
		path := join(working, arguments[i+1])
		text, err := os.ReadFile(reach(directory, path))
		if err != nil {
			failed = append(failed, fmt.Errorf("reading its configuration: %w", err))
			continue
		}
		files = append(files, config.File{Name: path, Text: text})
	}
	return files, failed
}

func join(directory, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(directory, path)
}

// environ returns the environment a process was started with.
func environ(directory string) map[string]string {
	text, err := os.ReadFile(filepath.Join(directory, "environ"))
	if err != nil {
		return nil
	}
	variables := map[string]string{}
	for entry := range strings.SplitSeq(string(text), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			variables[name] = value
		}
	}
	return variables
}

// reach returns the path by which a file of a process is reached from here: as it is, or through /proc when
// the process has mounts of its own. A chroot is none: its files were opened before.
func reach(directory, path string) string {
	if !strings.HasPrefix(path, "/") || sameNamespace(directory, "mnt") {
		return path
	}
	return filepath.Join(directory, "root", path)
}

// sameNamespace reports whether a process shares a namespace with this one. When that cannot be told it is
// assumed.
func sameNamespace(directory, kind string) bool {
	own, err1 := os.Readlink("/proc/self/ns/" + kind)
	other, err2 := os.Readlink(filepath.Join(directory, "ns", kind))
	return err1 != nil || err2 != nil || own == other
}
