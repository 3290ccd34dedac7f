// Chaos puts a private whyspin through minutes of traffic, and looks at what that has left of it.
//
//	chaos [-for 10m] [-seed N] [-workers N] [-global LINE] [-profiles DIR] [-whyspin bin/whyspin]
//	chaos -soak [-for 10m] ...
//	chaos -handshakes 100000 [-cut 0.05] ...
//
// The first is the storm: real clients and servers reset, stall, half-close, trickle, disappear, leave at
// once and fill up queues; servers refuse, go away and come back, or never answer; streams are killed; and in
// the midst of them healthy clients hold conversations whose every byte is verified. In the soak a bounded
// number of connections sends request after request as fast as they are answered. The third makes a number
// of TLS handshakes, of which some are cut at any of its bytes: by FIN, by RST, or by silence.
//
// When the traffic has ended nothing may be left: no stream, no descriptor, no more live heap than after the
// warm-up (and 10 %); the p99 must not have grown while the traffic went on; there must have been no
// suspicion and no finding, nor any by a diagnosis from outside in the middle of it. Then the proxy is told
// to leave in the midst of more traffic, and must end, but not before those that it serves. It exits with 1
// and a list when something is wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	whyspin string
	over    time.Duration
	workers int
	seed    uint64 // of what is random; the order of events is the machine's
	soak    bool
	// handshakes is how many there are, 0 for the storm or the soak.
	handshakes int
	cut        float64 // the share of them that are cut
	global     string  // lines for the section global
	// profiles is the directory for profiles of the heap after the warm-up and at the end; empty for none.
	profiles string
}

func main() { os.Exit(run(os.Args[1:])) }

func (o options) kind() string {
	if o.handshakes > 0 {
		return "handshakes"
	}
	if o.soak {
		return "soak"
	}
	return "storm"
}

func run(arguments []string) int {
	set := flag.NewFlagSet("chaos", flag.ContinueOnError)
	var o options
	set.BoolVar(&o.soak, "soak", false, "saturation instead of the storm")
	set.IntVar(&o.handshakes, "handshakes", 0, "a `number` of TLS handshakes instead of the storm")
	set.Float64Var(&o.cut, "cut", 0.05, "the `share` of the handshakes that are cut")
	set.DurationVar(&o.over, "for", 10*time.Minute, "how `long` the traffic goes on")
	set.IntVar(&o.workers, "workers", 4, "the `number` of the proxy's workers")
	set.Uint64Var(&o.seed, "seed", rand.Uint64()>>32, "the `seed` of what is random")
	set.StringVar(&o.whyspin, "whyspin", filepath.Join("bin", "whyspin"), "the program to try")
	set.Func("global", "add a `line` to the section global; may be given several times",
		func(line string) error {
			o.global += "    " + line + "\n"
			return nil
		})
	set.StringVar(&o.profiles, "profiles", "", "keep the heap's profiles in this `directory`")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	if set.NArg() > 0 || o.over < time.Second || o.workers < 1 || o.handshakes < 0 {
		fmt.Fprintln(os.Stderr, "chaos: it takes a second at least, a worker at least, and no arguments")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	play := o.play
	if o.handshakes > 0 {
		play = o.playHandshakes
	}
	wrong, err := play(ctx, os.Stdout)
	for _, w := range wrong {
		fmt.Println("WRONG:", w)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || len(wrong) > 0 {
		return 1
	}
	fmt.Println("nothing is wrong")
	return 0
}
