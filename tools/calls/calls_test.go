package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoSuperfluousCalls counts the system calls of whyspin and of HAProxy for the same work.
func TestNoSuperfluousCalls(t *testing.T) {
	program := filepath.Join(t.TempDir(), "whyspin")
	build := exec.Command("go", "build", "-o", program, "github.com/whyspin/whyspin/cmd/whyspin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building whyspin: %v\n%s", err, out)
	}
	pairs, err := compare(t.Context(), program)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	printCounts(&table, pairs)
	t.Logf("system calls, side by side:\n%s", &table)
	for _, p := range pairs {
		if err := p.check(); err != nil {
			t.Errorf("%s:\n%v", p.whyspin.work.name, err)
		}
	}
}

// TestListingIsRead reads lines as strace prints them.
func TestListingIsRead(t *testing.T) {
	const listing = `strace: Process 10 attached with 3 threads
12    recvfrom(8, "one more", 16384, MSG_DONTWAIT, NULL, NULL) = 8
11    futex(0x1, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
12    recvfrom(9,  <unfinished ...>
11    <... futex resumed>)              = 0
12    <... recvfrom resumed>0xc000, 16384, MSG_DONTWAIT, NULL, NULL) = -1 EAGAIN (Resource)
12    sendto(9, "one more", 8, MSG_DONTWAIT|MSG_NOSIGNAL, NULL, 0) = 8
12    epoll_pwait(4, [], 256, 2, NULL, 0) = 0
12    clock_gettime(CLOCK_THREAD_CPUTIME_ID, {tv_sec=0, tv_nsec=1}) = 0
12    futex(0x1, FUTEX_WAKE_PRIVATE, 1) = 1
12    +++ exited with 0 +++
`
	c := count{units: 1}
	if err := c.read(listing, []int{12}); err != nil {
		t.Fatal(err)
	}
	if c.calls["recvfrom"] != 2 || c.again["recvfrom"] != 1 || c.calls["sendto"] != 1 || len(c.calls) != 2 {
		t.Errorf("the calls are %v, in vain %v", c.calls, c.again)
	}
	if c.waits != 1 || c.runtime != 1 || c.others != 1 {
		t.Errorf("%d waits, %d of the runtime, %d of others", c.waits, c.runtime, c.others)
	}
	if err := (&count{units: 1}).read(listing, []int{13}); err == nil {
		t.Error("a worker without calls is no error")
	}
}

// TestBudgetIsHeld: a call that is not in the budget, one too many, one in vain, and more than HAProxy makes.
func TestBudgetIsHeld(t *testing.T) {
	with := func(calls, again map[string]int) *count {
		return &count{work: &works[0], units: 100, calls: calls, again: again}
	}
	peer := with(map[string]int{"recvfrom": 200, "sendto": 200}, nil)
	for _, c := range []struct {
		own   *count
		wrong string
	}{
		{with(map[string]int{"recvfrom": 205, "sendto": 200}, nil), ""},
		{with(map[string]int{"recvfrom": 220, "sendto": 150}, nil), "2.20 calls of recvfrom"},
		{with(map[string]int{"recvfrom": 190, "getsockopt": 100}, nil), "1.00 calls of getsockopt"},
		{with(map[string]int{"recvfrom": 200, "sendto": 200}, map[string]int{"recvfrom": 20}), "EAGAIN"},
		{with(map[string]int{"recvfrom": 208, "sendto": 208}, nil), "HAProxy makes 4.00"},
	} {
		err := pair{c.own, peer}.check()
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("calls %v in vain %v: %v, should be %q", c.own.calls, c.own.again, err, c.wrong)
		}
	}
}
