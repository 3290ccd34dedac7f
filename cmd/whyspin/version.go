package main

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/whyspin/whyspin/internal/fault"
)

// version is the program's own version. compatible is the version of HAProxy whose behaviour it follows;
// existing clients of the runtime API read it from "show info".
const (
	version    = "0.1.0"
	compatible = "2.6.0"
)

// released is the date of the version, as "show info" shows it.
const released = "2026/11/22"

func runVersion(arguments []string) int {
	set := flag.NewFlagSet("version", flag.ContinueOnError)
	if code, ok := flags(set, "", arguments); !ok {
		return code
	}
	printVersion()
	return exitOK
}

func printVersion() {
	fmt.Printf("whyspin %s (configuration language and runtime API of HAProxy %s), %s %s/%s\n", version,
		compatible,
		runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// printBuild prints what the program was built from and with.
func printBuild() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	fmt.Printf("Built with %s\n", info.GoVersion)
	for _, m := range info.Deps {
		fmt.Printf("  %s %s\n", m.Path, m.Version)
	}
	fmt.Println("Faults that --allow-faults accepts:", strings.Join(fault.Names(), ", "))
}
