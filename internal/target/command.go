package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/haproxy"
)

// command is what the command line of a proxy says of its configuration: whyspin takes the options of the
// haproxy program.
type command struct {
	// files are the files and directories of configuration, in their order.
	files []string
	// master is the address of the master's socket, as written: "-S".
	master string
	// change is the directory that the program changes to before it reads them: "-C".
	change string
}

// maxConfiguration bounds each file of configuration. The largest have some ten thousand lines.
const maxConfiguration = 64 << 20

func readCommand(directory string) command {
	var c command
	arguments := commandLine(directory)
	for i := 1; i < len(arguments); i++ {
		if arguments[i] == "--" {
			c.files = append(c.files, arguments[i+1:]...)
			break
		}
		// The subcommands of whyspin take --f and -f=FILE as well, and files without a flag.
		name, value, given := strings.Cut(arguments[i], "=")
		var into func(string)
		switch strings.TrimPrefix(name, "-") {
		case "-f", "f":
			into = func(v string) { c.files = append(c.files, v) }
		case "-S", "S":
			into = func(v string) { c.master = v }
		case "-C", "C":
			into = func(v string) { c.change = v }
		}
		switch {
		case into == nil || !strings.HasPrefix(name, "-"):
			if i > 1 && arguments[1] == "run" && !strings.HasPrefix(name, "-") {
				c.files = append(c.files, arguments[i])
			}
		case given:
			into(value)
		case i+1 < len(arguments):
			into(arguments[i+1])
			i++
		}
	}
	return c
}

// scan reads the configuration that the command names.
func (c command) scan(directory string) (found haproxy.Configuration, failed []error) {
	var texts [][]byte
	working := join(workingDirectory(directory), c.change)
	for _, file := range c.files {
		all, err := c.read(reach(directory, join(working, file)))
		texts = append(texts, all...)
		if err != nil {
			failed = append(failed, fmt.Errorf("reading its configuration: %w", err))
		}
	}
	return haproxy.ScanConfiguration(texts, environ(directory)), failed
}

// read reads a file, or those of a directory that end in ".cfg", in the order of their names.
func (c command) read(path string) (texts [][]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filepath.Glob(filepath.Join(path, "*.cfg")); err != nil {
			return nil, err
		}
		slices.Sort(names)
	}
	for _, name := range names {
		// A pipe or a terminal that the configuration came from has nothing more to say.
		if info, err = os.Stat(name); err != nil || !info.Mode().IsRegular() ||
			info.Size() > maxConfiguration {
			return texts, fmt.Errorf("%s is no file of configuration any more", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return texts, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// workingDirectory is the directory that a proxy was started in. After a chroot that of the process is
// another, but its environment remembers it, and its parent may.
func workingDirectory(directory string) string {
	root, err := os.Readlink(filepath.Join(directory, "root"))
	if err == nil && root != "/" {
		if above := parent(directory); above != "" && shareNamespace(above, directory, "mnt") &&
			slices.Equal(readCommand(above).files, readCommand(directory).files) {
			return workingDirectory(above)
		}
		if path := environ(directory)["PWD"]; filepath.IsAbs(path) {
			return path
		}
	}
	working, err := os.Readlink(filepath.Join(directory, "cwd"))
	if err != nil {
		return "/"
	}
	return working
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
