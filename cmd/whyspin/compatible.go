package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// compatible is the command line of the haproxy program.
type compatibleLine struct {
	settings
	check, verbose, version, everything bool
	directory, pidFile                  string
	maxConn                             int
	daemon, foreground                  bool
}

// notYet are the flags of haproxy that are part of the contract and not built yet.
var notYet = []string{"-W", "-Ws", "-S", "-sf", "-st", "-x", "-cc", "-L", "-N"}

// ignored are flags that choose among HAProxy's internals.
var ignored = []string{"-d", "-dM", "-dr", "-de", "-dp", "-dS", "-dG", "-dV", "-dL", "-dK", "-dD", "-dW"}

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
	if l.directory != "" {
		if err := os.Chdir(l.directory); err != nil {
			fmt.Fprintf(os.Stderr, "[ALERT]    (%d) : %v\n", os.Getpid(), err)
			return exitFailed
		}
	}
	if l.check {
		return checkCompatible(l)
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
		case flag == "-n":
			var text string
			if text, err = next(&i, flag); err == nil {
				if l.maxConn, err = strconv.Atoi(text); err != nil || l.maxConn < 1 {
					err = fmt.Errorf("the flag -n needs a number above 0, not %q", text)
				}
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

// word takes a flag without a value.
func (l *compatibleLine) word(flag string) error {
	switch flag {
	case "-c":
		l.check = true
	case "-D":
		l.daemon = true
	case "-db":
		l.foreground = true
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
		for _, f := range notYet {
			if f == flag {
				return fmt.Errorf("the flag %s of haproxy is not supported in this version", flag)
			}
		}
		for _, f := range ignored {
			if f == flag {
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
	l.change = func(c *config.Config) {
		c.Global.Daemon = c.Global.Daemon || l.daemon
		if l.pidFile != "" {
			c.Global.PIDFile = l.pidFile
		}
		if l.maxConn > 0 {
			c.Global.MaxConn = l.maxConn
		}
	}
	return l, nil
}

// checkCompatible is "haproxy -c": messages in HAProxy's form, which editors and deployment scripts know.
func checkCompatible(l *compatibleLine) int {
	c, err := load(l.files, l.allowFaults)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(os.Stderr, "[ALERT]    (%d) : config : %s\n", os.Getpid(), line)
		}
		fmt.Fprintf(os.Stderr, "[ALERT]    (%d) : config : Fatal errors found in configuration.\n",
			os.Getpid())
		return exitFailed
	}
	if !l.quiet {
		for _, w := range c.Warnings {
			fmt.Fprintf(os.Stderr, "[WARNING]  (%d) : config : %s\n", os.Getpid(), w)
		}
		if l.verbose || len(c.Warnings) == 0 {
			fmt.Println("Configuration file is valid")
		}
	}
	return exitOK
}
