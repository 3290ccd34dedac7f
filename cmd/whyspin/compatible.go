package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/whyspin/whyspin/internal/config"
)

// compatibleLine is the command line of the haproxy program.
type compatibleLine struct {
	settings
	check, verbose, version, everything bool
	pidFile                             string
	maxConn, proxyMaxConn               int
	daemon, foreground, noSplice        bool
	without                             []string // the flags that have no effect here
}

// notYet are the flags of haproxy that are part of the contract and not built yet, and what they ask for.
var notYet = map[string]string{
	"-W": "master-worker mode", "-Ws": "master-worker mode", "-S": "the master's runtime API",
	"-cc": "evaluating a condition",
}

// tuning are the flags that choose among HAProxy's internals, or print about them; more may follow the
// letters in the same word. They have no effect.
var tuning = []string{"-dC", "-dD", "-dF", "-dG", "-dK", "-dL", "-dM", "-dR", "-dV", "-dZ", "-de",
	"-dh", "-dl", "-dp", "-ds", "-dt"}

// runCompatible takes the flags of the haproxy program, so that whyspin can stand in its place.
func runCompatible(arguments []string) int {
	l, err := parseCompatible(arguments)
	if err != nil {
		fmt.Fprintf(os.Stderr, "whyspin: %v; \"whyspin help\" says more\n", err)
		return exitFailed
	}
	if l.version {
		printVersion()
		if l.everything {
			printBuild()
		}
		return exitOK
	}
	for _, flag := range l.without {
		l.warn(fmt.Sprintf("the flag %s has no effect in whyspin", flag))
	}
	if l.check {
		return l.checkOnly()
	}
	return run(l.settings)
}

// parseCompatible reads the command line.
func parseCompatible(arguments []string) (*compatibleLine, error) {
	l := &compatibleLine{}
	next := func(i *int, flag string) (string, error) {
		if *i++; *i >= len(arguments) {
			return "", fmt.Errorf("the flag %s needs a value", flag)
		}
		return arguments[*i], nil
	}
	for i := 0; i < len(arguments); i++ {
		flag := arguments[i]
		var err error
		switch {
		case flag == "-f":
			var name string
			name, err = next(&i, flag)
			l.files = append(l.files, name)
			// Further names may follow, up to the next flag.
			for i+1 < len(arguments) && !strings.HasPrefix(arguments[i+1], "-") {
				i++
				l.files = append(l.files, arguments[i])
			}
		case flag == "--":
			l.files = append(l.files, arguments[i+1:]...)
			i = len(arguments)
		case flag == "-p":
			l.pidFile, err = next(&i, flag)
		case flag == "-C":
			l.directory, err = next(&i, flag)
		case flag == "-n" || flag == "-N" || flag == "-m":
			var text string
			if text, err = next(&i, flag); err == nil {
				err = l.number(flag, text)
			}
		case flag == "-L":
			_, err = next(&i, flag)
			l.without = append(l.without, flag)
		case flag == "-x":
			l.options.TakeFrom, err = next(&i, flag)
		case flag == "-sf" || flag == "-st":
			// Nobody may follow, as at the first start by a script that reads the pid file.
			l.farewell = syscall.SIGUSR1
			if flag == "-st" {
				l.farewell = syscall.SIGTERM
			}
			for i+1 < len(arguments) && !strings.HasPrefix(arguments[i+1], "-") && err == nil {
				i++
				err = l.replace(flag, arguments[i])
			}
		default:
			err = l.word(flag)
		}
		if err != nil {
			return nil, err
		}
	}
	return l.complete()
}

// replace takes the number of a process that is to be replaced.
func (l *compatibleLine) replace(flag, text string) error {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return fmt.Errorf("the flag %s needs the numbers of processes, not %q", flag, text)
	}
	l.replaced = append(l.replaced, pid)
	l.options.Replaces = true
	return nil
}

// number takes the value of a flag; 0 stands for the flag's absence.
func (l *compatibleLine) number(flag, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("the flag %s needs a whole number, not %q", flag, text)
	}
	switch flag {
	case "-n":
		l.maxConn = n
	case "-N":
		l.proxyMaxConn = n
	default:
		l.without = append(l.without, flag)
	}
	return nil
}

// word takes a flag without a value.
func (l *compatibleLine) word(flag string) error {
	switch flag {
	case "-c":
		l.check = true
	case "-D":
		l.daemon = true
	case "-db", "-d": // HAProxy's debug mode prints what passes through it, which whyspin does not
		l.foreground = true
	case "-dW":
		l.fatalWarnings = true
	case "-dS":
		l.noSplice = true
	case "-dr":
		l.options.IgnoreUnresolved = true
	case "-q":
		l.quiet = true
	case "-V":
		l.verbose = true
	case "-v":
		l.version = true
	case "-vv":
		l.version, l.everything = true, true
	case "--allow-faults":
		l.allowFaults = true
	default:
		if what, known := notYet[flag]; known {
			return fmt.Errorf("the flag %s of haproxy (%s) is not supported yet", flag, what)
		}
		for _, f := range tuning {
			if strings.HasPrefix(flag, f) {
				l.without = append(l.without, flag)
				return nil
			}
		}
		return fmt.Errorf("unknown flag %s", flag)
	}
	return nil
}

func (l *compatibleLine) complete() (*compatibleLine, error) {
	if len(l.files) == 0 && !l.version {
		return nil, fmt.Errorf("no configuration file was named (-f FILE)")
	}
	l.background = !l.foreground
	l.haproxy, l.quiet = true, l.quiet && !l.verbose
	l.change = func(c *config.Config) {
		c.Global.Daemon = c.Global.Daemon || l.daemon
		if l.pidFile != "" {
			c.Global.PIDFile = l.pidFile
		}
		c.Global.NoSplice = c.Global.NoSplice || l.noSplice
		if l.maxConn > 0 {
			c.Global.MaxConn = l.maxConn
		}
		for _, p := range c.Proxies {
			if p.IsFrontend && p.MaxConn == 0 {
				p.MaxConn = l.proxyMaxConn
			}
		}
	}
	return l, nil
}

// exitIdle is haproxy's exit code for a configuration that is right and has nothing to do.
const exitIdle = 2

// checkOnly is "haproxy -c": its messages and its exit codes.
func (l *compatibleLine) checkOnly() int {
	print := func(line string) {
		if !l.quiet {
			fmt.Fprintln(standardOutput, line)
		}
	}
	err := l.changeDirectory()
	var warnings int
	if err == nil {
		_, warnings, err = check(l.messages, l.files, l.allowFaults, l.options)
	}
	var wrong *config.Errors
	switch {
	case errors.As(err, &wrong) && wrong.Idle:
		print("Configuration file has no error but will not start (no listener) => exit(2).")
		return exitIdle
	case err != nil:
		l.alert(err)
		l.alert(errFatal)
		return exitFailed
	case warnings > 0 && l.fatalWarnings:
		l.alert(errWarnings)
		return exitFailed
	case warnings > 0:
		print("Warnings were found.")
	}
	print("Configuration file is valid")
	return exitOK
}
