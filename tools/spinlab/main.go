// Command spinlab starts small foreign programs that spin, each with one defect of the spin catalogue and
// healthy traffic beside it when that is asked for, and says who the culprit is. The tests of this package
// compare the verdicts of whyspin with that truth; by hand it is a place to try whyspin out:
//
//	go run ./tools/spinlab                       the programs and their classes
//	go run ./tools/spinlab epoll-c F1 8          one of them, with 8 healthy connections, until interrupted
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) == 1 {
		for _, p := range programs {
			fmt.Printf("%-11s %s\n", p.name, strings.Join(p.classes, " "))
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runOne(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "spinlab:", err)
		os.Exit(1)
	}
}

// runOne starts one program, prints the truth about it and keeps it until it is interrupted.
func runOne(ctx context.Context, arguments []string) error {
	if len(arguments) < 2 || len(arguments) > 3 {
		return fmt.Errorf("usage: spinlab [PROGRAM CLASS [CONNECTIONS]]")
	}
	p, err := find(arguments[0])
	if err != nil {
		return err
	}
	healthy := 0
	if len(arguments) == 3 {
		if healthy, err = strconv.Atoi(arguments[2]); err != nil {
			return fmt.Errorf("the number of healthy connections: %w", err)
		}
	}
	directory, err := os.MkdirTemp("", "spinlab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	command, err := p.build(ctx, directory)
	if err != nil {
		return err
	}
	s, err := start(ctx, command, arguments[1], healthy)
	if err != nil {
		return err
	}
	defer s.stop()
	text, err := json.Marshal(s.truth)
	if err != nil {
		return err
	}
	fmt.Printf("process %d spins: %s\n", s.pid(), text)
	<-ctx.Done()
	return nil
}
