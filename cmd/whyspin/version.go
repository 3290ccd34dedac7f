package main

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
)

// version is the program's own version.
const version = "0.1.0"

// released is the date of the version, as "show info" shows it.
const released = "2026/11/22"

func runVersion(arguments []string) int {
	set := flag.NewFlagSet("version", flag.ContinueOnError)
	if code, ok := flags(set, "", arguments); !ok {
		return code
	}
	if set.NArg() > 0 {
		return complain("version", fmt.Errorf("it takes no arguments, not %q", set.Args()))
	}
	printVersion()
	return exitOK
}

func printVersion() {
	fmt.Fprintf(standardOutput,
		"whyspin %s (configuration language and runtime API of HAProxy %s), %s %s/%s\n",
		version, config.CompatibleVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// printBuild prints what the program was built from and with.
func printBuild() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	fmt.Fprintf(standardOutput, "Built with %s\n", info.GoVersion)
	for _, m := range info.Deps {
		fmt.Fprintf(standardOutput, "  %s %s\n", m.Path, m.Version)
	}
	fmt.Fprintln(standardOutput, "Faults that --allow-faults accepts:", strings.Join(fault.Names(), ", "))
}
