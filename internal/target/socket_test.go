package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/freeport"
)

// proxyEnvironment makes the test binary pretend to be a proxy with a configuration: it listens at the
// addresses in it, answers every line with answerEnvironment, and ends with its input.
const (
	proxyEnvironment  = "WHYSPIN_TEST_PROXY"
	answerEnvironment = "WHYSPIN_TEST_ANSWER"
)

func TestMain(m *testing.M) {
	addresses, ok := os.LookupEnv(proxyEnvironment)
	if !ok {
		os.Exit(m.Run())
	}
	for address := range strings.FieldsSeq(addresses) {
		network := "unix"
		if !strings.ContainsAny(address, "/@") {
			network = "tcp"
		}
		if err := pretendToAnswer(network, address); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// pretendToAnswer listens, and answers every connection's first line. At an address that ends in "silent"
// it reports who connects, on its standard output.
func pretendToAnswer(network, address string) error {
	bound := address
	if network == "unix" && strings.HasPrefix(address, "/") {
		bound += ".4711.tmp" // as HAProxy does
	}
	l, err := net.Listen(network, bound)
	if err != nil {
		return err
	}
	if bound != address {
		if err := os.Rename(bound, address); err != nil {
			return err
		}
	}
	text := strings.ReplaceAll(os.Getenv(answerEnvironment), "PID", fmt.Sprint(os.Getpid()))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if strings.HasSuffix(address, "silent") {
				fmt.Println("a stranger")
			}
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				_, _ = io.WriteString(c, answerTo(strings.TrimSpace(line), text))
			}
			c.Close()
		}
	}()
	return nil
}

// answerTo puts the parts of a text that are for each order in the place of the orders; one that is for all
// orders is the answer.
func answerTo(line, text string) string {
	if !strings.HasPrefix(text, "show ") {
		return text
	}
	answers := map[string]string{}
	for part := range strings.SplitSeq(text, orderMark) {
		order, answer, _ := strings.Cut(part, ": ")
		answers[order] = answer
	}
	said := ""
	for order := range strings.SplitSeq(line, ";") {
		answer, known := answers[order]
		if said += answer; !known {
			break // as if it did not heed what stands behind
		}
	}
	return said
}

// orderMark is between the answers to different orders, each of which begins with the order and a colon.
const orderMark = "\x01"

// pretender is a process that pretends to be a proxy.
type pretender struct {
	pid int
	end func() string // ends it and returns what else it said
}

// pretend starts a process whose command line names a configuration, in a working directory.
func pretend(t *testing.T, directory, answer, listen string, arguments ...string) pretender {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, arguments...)
	c.Dir = directory
	c.Env = append(os.Environ(), proxyEnvironment+"="+listen, answerEnvironment+"="+answer,
		"STATS=stats.sock")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	ended := false
	end := func() string {
		ended = true
		in.Close()
		rest, _ := io.ReadAll(said)
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		return string(rest)
	}
	t.Cleanup(func() {
		if !ended {
			end()
		}
	})
	if line, err := said.ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q: %v", line, err)
	}
	return pretender{c.Process.Pid, end}
}

// configure writes a file of configuration.
func configure(t *testing.T, directory, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	isWhyspin = "Name: whyspin\nVersion: 2.6.0-whyspin-1\nPid: PID\n\n"
	isHAProxy = "Name: HAProxy\nVersion: 2.6.12\nPid: PID\n\n"
	isAnother = "Name: HAProxy\nVersion: 2.6.12\nPid: 1\n\n"
)

// freePort returns a port that nobody listens on at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestTheSocketIsFoundInTheConfigurationOfTheProcess(t *testing.T) {
	port := freePort(t)
	abstract := fmt.Sprintf("whyspin-test-%d", os.Getpid())
	for _, c := range []struct {
		name, text, listen string
		arguments          []string
		want               string // DIR stands for the directory
	}{
		{"with a variable", `global
			stats socket "DIR/$STATS" level admin`, "DIR/stats.sock", nil, "DIR/stats.sock"},
		{"with a variable of its own", `global
			setenv NAME own.sock
			stats socket "DIR/${NAME}" level admin`, "DIR/own.sock", nil, "DIR/own.sock"},
		{"with keywords that nobody knows", "global\n lua-load-per-thread /etc/x.lua\n quantum 5\n" +
			" stats socket unix@DIR/x.sock mode 660\n stats timeout 30s", "DIR/x.sock", nil, "DIR/x.sock"},
		{"relative to where it was started", "global\n stats socket unix@x.sock", "DIR/x.sock", nil,
			"DIR/x.sock"},
		{"in the second file", "global\n stats socket DIR/x.sock", "DIR/x.sock",
			[]string{"-f", "other.cfg", "-f", "proxy.cfg"}, "DIR/x.sock"},
		{"in a directory", "global\n stats socket DIR/x.sock", "DIR/x.sock", []string{"-f", "."},
			"DIR/x.sock"},
		{"behind two dashes, in another directory", "global\n stats socket DIR/x.sock", "DIR/x.sock",
			[]string{"-C", "DIR", "-db", "--", "other.cfg", "proxy.cfg"}, "DIR/x.sock"},
		{"of TCP", fmt.Sprintf("global\n stats socket ipv4@*:%d level admin", port),
			fmt.Sprintf("127.0.0.1:%d", port), nil, fmt.Sprintf("127.0.0.1:%d", port)},
		{"of the abstract namespace", "global\n stats socket abnsz@" + abstract, "@" + abstract, nil,
			"@" + abstract},
		{"the one that is listening of two", "global\n stats socket DIR/gone.sock\n stats socket DIR/x.sock",
			"DIR/x.sock", nil, "DIR/x.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			directory := t.TempDir()
			place := func(text string) string { return strings.ReplaceAll(text, "DIR", directory) }
			configure(t, directory, "proxy.cfg", place(c.text)+"\n")
			configure(t, directory, "other.cfg", "# nothing\n")
			arguments := []string{"run", "-f", "proxy.cfg"}
			if c.arguments != nil {
				arguments = strings.Split(place(strings.Join(c.arguments, " ")), " ")
			}
			p := pretend(t, directory, isWhyspin, place(c.listen), arguments...)
			a, info, err := FindAPI(context.Background(), p.pid)
			if err != nil {
				t.Fatal(err)
			}
			want := Info{Kind: evidence.KindWhyspin, Version: "2.6.0-whyspin-1", PID: p.pid}
			if diff := cmp.Diff(want, info); diff != "" || a.Address != place(c.want) {
				t.Errorf("found %s: %s", a.Address, diff)
			}
		})
	}
}

// TestTheSocketIsAnInheritedDescriptor: the configuration names its number.
func TestTheSocketIsAnInheritedDescriptor(t *testing.T) {
	directory := t.TempDir()
	p := pretend(t, directory, isHAProxy, directory+"/x.sock", "-f", "proxy.cfg")
	for fd, path := range readListening(fmt.Sprintf("/proc/%d", p.pid)).byFD {
		if path != directory+"/x.sock" {
			t.Errorf("descriptor %d listens at %s", fd, path)
		}
		configure(t, directory, "proxy.cfg", fmt.Sprintf("global\n stats socket fd@%d\n", fd))
	}
	a, info, err := FindAPI(context.Background(), p.pid)
	if err != nil || a.Address != directory+"/x.sock" || info.Kind != evidence.KindHAProxy {
		t.Errorf("%v, %+v, %v", a, info, err)
	}
}

// TestNobodyElseIsAsked: what the process listens on may be a service behind it, and what its configuration
// names may be another's socket by now.
func TestNobodyElseIsAsked(t *testing.T) {
	for _, c := range []struct{ name, text, said string }{
		{"a socket that no configuration names", "global\n", "which may be one or may not"},
		{"a socket that another process listens on by now", "global\n stats socket DIR/other.silent\n",
			ErrNotListening.Error()},
	} {
		directory := t.TempDir()
		place := func(text string) string { return strings.ReplaceAll(text, "DIR", directory) }
		configure(t, directory, "proxy.cfg", place(c.text))
		other := pretend(t, directory, isAnother, place("DIR/other.silent"))
		p := pretend(t, directory, isHAProxy, place("DIR/service.silent"), "-f", "proxy.cfg")
		_, _, err := FindAPI(context.Background(), p.pid)
		if !errors.Is(err, ErrNoAPI) || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: %v, should say %q", c.name, err, c.said)
		}
		if said := p.end() + other.end(); said != "" {
			t.Errorf("%s: it was asked: %q", c.name, said)
		}
	}
}

func TestAnotherProcessIsNotTakenForTheTarget(t *testing.T) {
	directory := t.TempDir()
	configure(t, directory, "proxy.cfg", "global\n  stats socket "+directory+"/stats.sock\n")
	p := pretend(t, directory, isAnother, directory+"/stats.sock", "run", "-f", "proxy.cfg")
	_, _, err := FindAPI(context.Background(), p.pid)
	if !errors.Is(err, ErrNoAPI) || !errors.Is(err, ErrOtherProcess) ||
		!strings.Contains(err.Error(), "process 1") {
		t.Errorf("error %v", err)
	}
	a := API{Address: directory + "/stats.sock"}
	if _, err := NewHAProxy(a, p.pid).State(context.Background()); !errors.Is(err, ErrOtherProcess) {
		t.Errorf("the state of another process: %v", err)
	}
}

func TestBusyPollingIsReadInTheConfiguration(t *testing.T) {
	for text, want := range map[string]bool{
		"global\n busy-polling\n":                           true,
		"global\n busy-polling\n no busy-polling\n":         false,
		"global\n .if defined(X)\n busy-polling\n .endif\n": false,
		"global\n # busy-polling\n":                         false,
	} {
		directory := t.TempDir()
		configure(t, directory, "proxy.cfg", text)
		p := pretend(t, directory, isHAProxy, "", "-f", "proxy.cfg")
		if got := BusyPolling(p.pid); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}
