// Package lab brings back a class of bug in a private proxy, with real traffic on real sockets, and shows
// that it is named and healed.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/freeport"
)

const (
	healthy  = 200 // SMTP sessions in the background
	watchFor = 2 * time.Second
)

// configuration is what the demo's proxy runs with.
const configuration = `
global
    nbthread 1
    stats socket %s mode 600 level admin
    whyspin.fault redispatch-after-abort

defaults
    mode tcp
    option redispatch
    retries 3
    timeout connect %dms
    timeout client 1m
    timeout server 1m
    timeout tunnel %dms

listen smtp
    bind 127.0.0.1:%d
    server mx1 %s
    server mx2 %s
`

// demo is the founding case in progress.
type demo struct {
	out     io.Writer
	program string
	server  *MailServer
	silent  *silentServer
	proxy   *proxy
	address string // where clients connect
	orphan  string // the id of the stuck stream
}

// Demo runs the founding case from end to end and explains it on out. The program is the whyspin to run as
// the proxy and as the diagnosing process. It returns an error unless everything was as it has to be: the
// proxy spun, the verdict named the stream, the remedy worked, and no healthy session lost a byte.
func Demo(ctx context.Context, out io.Writer, program string) error {
	d := &demo{out: out, program: program}
	directory, err := os.MkdirTemp("", "whyspin-demo-")
	if err != nil {
		return fmt.Errorf("making a directory for the demo: %w", err)
	}
	defer os.RemoveAll(directory)
	if d.server, err = StartMailServer(); err != nil {
		return err
	}
	defer d.server.Close()
	if d.silent, err = startSilentServer(); err != nil {
		return err
	}
	defer d.silent.close()
	if err := d.start(ctx, directory); err != nil {
		return err
	}
	defer d.proxy.stop()

	finish := make(chan struct{})
	sessions := d.background(finish)
	err = d.story(ctx)
	close(finish)
	failed := sessions()
	if err != nil {
		if ended := d.proxy.alive(); ended != nil {
			return ended
		}
		return err
	}
	return d.epilogue(failed)
}

// start runs the proxy between the clients and the two servers.
func (d *demo) start(ctx context.Context, directory string) error {
	text, socket, err := d.configure(directory)
	if err != nil {
		return err
	}
	d.say("The founding case: a mail proxy and two servers; one does not answer, its accept queue is full.")
	d.say("The proxy carries the founding bug on purpose: whyspin.fault redispatch-after-abort.")
	d.proxy, err = startProxy(ctx, d.program, directory, text, socket)
	if err != nil {
		return err
	}
	d.say("  proxy pid %d on %s, %d healthy SMTP sessions in the background", d.proxy.pid(), d.address,
		healthy)
	return nil
}

// configure returns the configuration of the proxy and its stats socket.
func (d *demo) configure(directory string) (text, socket string, err error) {
	port, err := freeport.Get()
	if err != nil {
		return "", "", err
	}
	d.address = fmt.Sprintf("127.0.0.1:%d", port)
	socket = filepath.Join(directory, "stats.sock")
	text = fmt.Sprintf(configuration, socket, connectTimeout.Milliseconds(), tunnelTimeout.Milliseconds(),
		port,
		d.silent.address, d.server.Address())
	return text, socket, nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.say("\n%s\n%s", text, strings.Repeat("-", len(text)))
}

// background runs the healthy sessions. What it returns waits for them and gives the errors of those that
// failed.
func (d *demo) background(finish <-chan struct{}) func() []error {
	var sessions sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i := range healthy {
		sessions.Go(func() {
			m := &mailer{number: i}
			if err := m.run(d.address, d.server, finish); err != nil {
				mu.Lock()
				failed = append(failed, fmt.Errorf("session %d: %w", i, err))
				mu.Unlock()
			}
		})
	}
	return func() []error {
		sessions.Wait()
		return failed
	}
}

// story is the case itself.
func (d *demo) story(ctx context.Context) error {
	if err := d.hit(ctx); err != nil {
		return err
	}
	if err := awaitOverdue(ctx, d.proxy, d.orphan); err != nil {
		return err
	}
	before, err := d.proxy.measure(ctx, time.Second)
	if err != nil {
		return err
	}
	d.symptoms(before)
	id, err := d.verdict(ctx)
	if err != nil {
		return err
	}
	return d.heal(ctx, id, before)
}

// hit brings the founding bug about.
func (d *demo) hit(ctx context.Context) error {
	began := time.Now()
	l := leavers{address: d.address, proxy: d.proxy}
	var err error
	if d.orphan, err = l.hit(ctx); err != nil {
		return err
	}
	d.say("  after %.1f s and %d clients that left around the connect timeout (%v) one has hit",
		time.Since(began).Seconds(), l.count, connectTimeout)
	return nil
}

func (d *demo) symptoms(u usage) {
	d.title("What top shows")
	d.say("  %6s %-10s %6s", "PID", "COMMAND", "%CPU")
	d.say("  %6d %-10s %6.1f", d.proxy.pid(), "whyspin", 100*u.cpu)
	d.title("What strace would show, every second")
	seconds := u.over.Seconds()
	d.say("  %9.0f x  epoll_pwait(..., timeout=0) = 0", u.spins())
	d.say("  %9.0f x  every other epoll_pwait", float64(u.waits.Total())/seconds-u.spins())
	d.say("  %9.0f x  recvfrom and sendto of the healthy sessions, %.0f%% of them of 1 to 16 bytes",
		float64(u.calls)/seconds, 100*float64(u.tiny)/max(1, float64(u.calls)))
	d.say("  Nothing in it names the culprit, and the mail flows: %d streams, one of them guilty.", healthy+1)
}

// verdict lets a separate process diagnose the proxy, prints its report, and checks it.
func (d *demo) verdict(ctx context.Context) (id string, err error) {
	d.title("What whyspin says: whyspin diagnose --pid %d", d.proxy.pid())
	text, code, err := d.diagnose(ctx)
	if err != nil {
		return "", err
	}
	d.say("%s", indent(text))
	machine, codeJSON, err := d.diagnose(ctx, "--json")
	if err != nil {
		return "", err
	}
	if code != exitSpin || codeJSON != exitSpin {
		return "", fmt.Errorf("diagnose exited with %d and %d, should be %d: spin", code, codeJSON, exitSpin)
	}
	guilty, err := orphans(ctx, d.proxy)
	if err != nil {
		return "", err
	}
	return checkVerdict([]byte(machine), text, guilty)
}

// exitSpin is the exit code of diagnose for a spin.
const exitSpin = 3

// diagnose runs "whyspin diagnose" on the proxy.
func (d *demo) diagnose(ctx context.Context, flags ...string) (output string, code int, err error) {
	arguments := append([]string{"diagnose", "--pid", fmt.Sprint(d.proxy.pid()), "--for",
		watchFor.String()}, flags...)
	c := exec.CommandContext(ctx, d.program, arguments...)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err = c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", 0, fmt.Errorf("running diagnose: %w", err)
	}
	if out.Len() == 0 {
		return "", 0, fmt.Errorf("diagnose said nothing but: %s", complaint.String())
	}
	return out.String(), c.ProcessState.ExitCode(), nil
}

// checkVerdict compares the two forms of the verdict with what the demo knows of its own making. They come
// from two diagnoses, and there may be several orphans: each must name one of them.
func checkVerdict(machine []byte, text string, orphans []string) (string, error) {
	var report struct {
		Verdict  string
		Findings []struct {
			Class  string
			Stream struct {
				ID          string
				ClientState string `json:"client_state"`
				ServerState string `json:"server_state"`
			}
			Timer struct {
				Name           string
				OverdueSeconds float64 `json:"overdue_seconds"`
			}
			Remedy string
		}
	}
	if err := json.Unmarshal(machine, &report); err != nil {
		return "", fmt.Errorf("reading the verdict: %w", err)
	}
	if report.Verdict != "spin" || len(report.Findings) == 0 {
		return "", fmt.Errorf("the verdict is %q with %d findings", report.Verdict, len(report.Findings))
	}
	f := report.Findings[0]
	switch {
	case f.Class != "T3":
		return "", fmt.Errorf("the first finding is of class %q, should be T3", f.Class)
	case f.Stream.ClientState != "CLO" || f.Stream.ServerState != "EST":
		return "", fmt.Errorf("the stream is %s/%s, should be CLO/EST", f.Stream.ClientState,
			f.Stream.ServerState)
	case f.Timer.Name != "tunnel" || f.Timer.OverdueSeconds <= 0:
		return "", fmt.Errorf("the timer is %q, overdue by %f s", f.Timer.Name, f.Timer.OverdueSeconds)
	case !slices.Contains(orphans, f.Stream.ID):
		return "", fmt.Errorf("the verdict names stream %s, which is none of the orphans %q", f.Stream.ID,
			orphans)
	case !slices.ContainsFunc(strings.Fields(text), func(word string) bool {
		return slices.Contains(orphans, word)
	}):
		return "", fmt.Errorf("the text names none of the orphans %q", orphans)
	}
	return f.Stream.ID, nil
}
