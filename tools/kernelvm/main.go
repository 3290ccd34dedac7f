// Command kernelvm runs the tests that talk to the kernel under kernels of Debian, each in a virtual
// machine of its own, and on the running kernel; and keeps the table in bpf/README.md that says what each
// kernel offers.
//
//	kernelvm [-kernels 6.1,6.12] [-update] [-accel tcg] [-for 12m] [-run REGEXP]
//
// It exits 1 when a test failed, was skipped, or did not come to its end, or when the table is out of date;
// 2 on bad usage. A machine is QEMU with the kernel of a Debian package, a busybox, and static test binaries
// in its initial file system; no disk, no network but the loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	series   []string
	update   bool
	accel    string
	limit    time.Duration
	run      string
	cache    string
	readme   string
	standing bool
}

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	var o options
	set := flag.NewFlagSet("kernelvm", flag.ContinueOnError)
	series := set.String("kernels", "6.1,6.12", "the `series` of Debian's kernels to run under")
	set.BoolVar(&o.update, "update", false, "write the table instead of comparing it")
	// Nested KVM is offered by hosts that then stop in the guest's first cmpxchg16b; emulation always
	// works, and is fast enough: a kernel is up after two seconds.
	set.StringVar(&o.accel, "accel", "tcg,thread=single", "QEMU's `accelerator`; kvm where that works")
	set.DurationVar(&o.limit, "for", 12*time.Minute, "how long one machine may run")
	set.StringVar(&o.run, "run", "", "only the tests that match this `expression`; no table then")
	set.StringVar(&o.cache, "cache", filepath.Join("bin", "kernels"), "where unpacked kernels are kept")
	set.StringVar(&o.readme, "table", filepath.Join("bpf", "README.md"), "the file with the table")
	set.BoolVar(&o.standing, "running", true, "run on the running kernel, too")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	if set.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "kernelvm: unexpected argument %q\n", set.Arg(0))
		return 2
	}
	o.series = strings.Split(*series, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := test(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "kernelvm: %v\n", err)
		return 1
	}
	return 0
}

// test runs everything and says what came of it.
func test(ctx context.Context, o options) error {
	work, err := os.MkdirTemp("", "kernelvm")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(work)
	programs, err := buildPrograms(ctx, work, o.run)
	if err != nil {
		return err
	}
	var kernels []kernel
	for _, series := range o.series {
		k, err := findKernel(ctx, o.cache, series)
		if err != nil {
			return err
		}
		fmt.Printf("%s: package %s, version %s\n", k.name(), k.pkg, k.version)
		kernels = append(kernels, k)
	}
	archive := filepath.Join(work, "initramfs")
	if err := writeInitramfs(archive, programs); err != nil {
		return err
	}
	reports := make([]*report, len(kernels))
	failures := make([]error, len(kernels)+1)
	var all sync.WaitGroup
	for i, k := range kernels {
		all.Go(func() {
			m := machine{name: k.name(), kernel: k.image, initramfs: archive, accel: o.accel, limit: o.limit,
				directory: work}
			reports[i], failures[i] = twice(m.name, func() (*report, error) { return m.run(ctx, programs) })
		})
	}
	all.Wait()
	if o.standing {
		r, err := runHere(ctx, programs)
		reports = append(reports, r)
		failures[len(kernels)] = err
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for _, r := range reports {
		fmt.Printf("%s: ok, %d tests passed in %v\n", r.name, r.passed, r.took.Round(time.Second))
	}
	if o.run != "" {
		return nil
	}
	return keepTable(o, kernels, reports)
}

// twice runs a machine, and once more when that fails: an emulated machine may lose a moment that a test
// waits for. What fails by itself fails twice. It says what failed, whatever comes of it.
func twice(name string, run func() (*report, error)) (*report, error) {
	r, first := run()
	if first == nil {
		return r, nil
	}
	fmt.Printf("%s: failed, and is run once more: %v\n", name, first)
	r, second := run()
	if second == nil {
		fmt.Printf("%s: passed the second time\n", name)
		return r, nil
	}
	return nil, second
}

// keepTable compares the committed table with what the kernels said, or writes it.
func keepTable(o options, kernels []kernel, reports []*report) error {
	fresh, err := makeTable(kernels, reports)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s\n", fresh)
	if o.update {
		return fresh.write(o.readme)
	}
	return fresh.compare(o.readme)
}
