package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/target"
)

// reloading is a proxy that is replaced by others, again and again, with clients at all of its listeners.
type reloading struct {
	*testing.T
	a               *authority
	file, socket    string
	addresses       map[string]string // network and address of each listener without TLS, by kind
	secured, direct string
	client          *tls.Config
	now             *background
}

func startReloading(t *testing.T, expose string) *reloading {
	t.Helper()
	a := newAuthority(t)
	r := &reloading{T: t, a: a, socket: a.path("api"), addresses: map[string]string{}}
	r.secured, r.direct = "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	r.addresses["tcp"], r.addresses["unix"] = "tcp "+r.direct, "unix "+a.path("front")
	abstract := ""
	if expose != "" {
		// Such a socket can be taken over only.
		name := fmt.Sprintf("whyspin-reload-%d", os.Getpid())
		r.addresses["abstract"], abstract = "unix @"+name, " bind abns@"+name+"\n"
	}
	pem := a.issue("a.pem", "a.test", newECDSA(t))
	r.file = a.write("cfg", fmt.Sprintf(`global
 stats socket %s level admin %s
 stats socket 127.0.0.1:%s
 nbthread 2
 whyspin.admin 127.0.0.1:%s
defaults
 timeout connect 10s
 timeout client 30s
 timeout server 30s
listen plain
 bind %s
 bind %s
%s server s 127.0.0.1:%s
listen secured
 bind %s ssl crt %s
 server s 127.0.0.1:%s
`, r.socket, expose, freePort(t), freePort(t), r.direct, a.path("front"), abstract, startEcho(t),
		r.secured, pem, startEcho(t)))
	r.client = &tls.Config{ServerName: "a.test", RootCAs: x509.NewCertPool(),
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	r.client.RootCAs.AddCert(a.cert)
	r.now = r.start()
	return r
}

// start starts one more process, and waits until it is the one that answers.
func (r *reloading) start(flags ...string) *background {
	r.Helper()
	b := start(r.T, exec.Command(program, append([]string{"-db", "-f", r.file}, flags...)...))
	api := target.API{Address: r.socket}
	eventually(r.T, "the new process to answer", func() bool {
		select {
		case <-b.ended:
			r.Fatalf("the new process has ended and said:\n%s", b.output)
		default:
		}
		info, err := api.Info(context.Background())
		return err == nil && info.PID == b.Process.Pid
	})
	return b
}

// replace starts a process that replaces the present one.
func (r *reloading) replace(flags ...string) (old *background) {
	r.Helper()
	old = r.now
	r.now = r.start(append(flags, "-sf", strconv.Itoa(old.Process.Pid))...)
	return old
}

// echo sends a word over a connection and waits for it to come back.
func echo(c net.Conn) error {
	const word = "still there"
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	_, err := io.ReadFull(c, got)
	if err == nil && string(got) != word {
		err = fmt.Errorf("%q came back", got)
	}
	return err
}

// once makes a connection, has a word echoed, and ends it.
func (r *reloading) once(kind string) error {
	network, address, _ := strings.Cut(r.addresses[kind], " ")
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	return echo(c)
}

// resumes reports whether a client's session goes on with a new connection.
func (r *reloading) resumes() bool {
	r.Helper()
	c, err := tls.Dial("tcp", r.secured, r.client)
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	if err := echo(c); err != nil { // with it the ticket comes
		r.Fatal(err)
	}
	return c.ConnectionState().DidResume
}

// storm has clients come without a pause, until it is told to stop; it returns how many came, and what went
// wrong.
func (r *reloading) storm(kinds ...string) (stop func() (served int, wrong []error)) {
	done := make(chan struct{})
	var running sync.WaitGroup
	var mu sync.Mutex
	served := 0
	var wrong []error
	for _, kind := range kinds {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				err := r.once(kind)
				mu.Lock()
				if served++; err != nil {
					wrong = append(wrong, fmt.Errorf("%s: %w", kind, err))
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, []error) {
		close(done)
		running.Wait()
		return served, wrong
	}
}

// ends waits for a process to end in order.
func (r *reloading) ends(old *background) {
	r.Helper()
	eventually(r.T, "the old process to end", func() bool {
		select {
		case <-old.ended:
			return true
		default:
			return false
		}
	})
	if code := old.ProcessState.ExitCode(); code != 0 {
		r.Errorf("the old process exits with %d and said:\n%s", code, old.output)
	}
}

// TestAReloadLosesNothing: a new process takes over the listeners and the secrets of tickets; the old one
// keeps its streams and ends with the last of them. No client is refused or reset meanwhile, sessions go
// on, and the runtime API is the new one's.
func TestAReloadLosesNothing(t *testing.T) {
	r := startReloading(t, "expose-fd listeners")
	if r.resumes() {
		t.Fatal("the first connection resumes a session")
	}
	stays, err := net.Dial("tcp", r.direct)
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	if err := echo(stays); err != nil {
		t.Fatal(err)
	}
	stop := r.storm("tcp", "unix", "abstract")
	first := r.replace("-x", r.socket)
	second := r.replace() // the socket is found in the configuration
	third := r.replace("-x", r.socket)
	r.ends(second)
	r.ends(third)
	served, wrong := stop()
	if len(wrong) > 0 || served < 10 {
		t.Errorf("%d of %d connections failed, the first: %v", len(wrong), served, wrong[:min(1, len(wrong))])
	}
	if !r.resumes() {
		t.Error("a session of the first process is not resumed by the fourth")
	}
	select {
	case <-first.ended:
		t.Fatalf("the first process has left its stream, and said:\n%s", first.output)
	default:
	}
	if err := echo(stays); err != nil {
		t.Errorf("the stream of the first process: %v", err)
	}
	stays.Close()
	r.ends(first)
	for kind := range r.addresses {
		if err := r.once(kind); err != nil {
			t.Errorf("%s, after the old processes have gone: %v", kind, err)
		}
	}
	for _, b := range []*background{second, third, r.now} {
		if strings.Contains(b.output.String(), "WARNING") {
			t.Errorf("a process that replaces another warns:\n%s", b.output)
		}
	}
}

// TestAReloadWithoutHandingOver: without "expose-fd listeners" the ports are shared until the old process
// lets go of them, as with HAProxy; whoever does not say that he replaces another gets none.
func TestAReloadWithoutHandingOver(t *testing.T) {
	r := startReloading(t, "")
	o := execute(t, program, "-db", "-f", r.file)
	if o.code != 1 || !strings.Contains(o.errors, "address already in use") {
		t.Errorf("a second process exits with %d and says:\n%s", o.code, o.errors)
	}
	o = execute(t, program, "-db", "-f", r.file, "-x", r.socket, "-sf", strconv.Itoa(r.now.Process.Pid))
	if o.code != 1 || !strings.Contains(o.errors, `"expose-fd listeners"`) {
		t.Errorf("one that asks for what is not offered exits with %d and says:\n%s", o.code, o.errors)
	}
	if err := r.once("tcp"); err != nil {
		t.Errorf("after that: %v", err)
	}
	r.ends(r.replace())
	for kind := range r.addresses {
		if err := r.once(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestOnlyAProxyIsToldToStop: the number in a pid file may be another program's by now.
func TestOnlyAProxyIsToldToStop(t *testing.T) {
	other := start(t, exec.Command(need(t, "sleep"), "600"))
	r := startReloading(t, "")
	r.now.stop(t)
	r.now = r.start("-st", strconv.Itoa(other.Process.Pid), "4194304")
	if !strings.Contains(r.now.output.String(), `it is "sleep", not a proxy`) {
		t.Errorf("that it is not told to stop is not said:\n%s", r.now.output)
	}
	select {
	case <-other.ended:
		t.Error("another program was ended")
	default:
	}
}

// TestTakingASiteOverFromHAProxy: it shares its ports, and ends when it is told to.
func TestTakingASiteOverFromHAProxy(t *testing.T) {
	r := startReloading(t, "")
	r.now.stop(t)
	file := r.a.write("haproxy.cfg", "defaults\n timeout connect 10s\n timeout client 30s\n"+
		" timeout server 30s\nlisten plain\n bind "+r.direct+"\n server s 127.0.0.1:"+startEcho(t)+"\n")
	old := start(t, exec.Command(need(t, "haproxy"), "-db", "-f", file))
	eventually(t, "HAProxy to serve", func() bool { return r.once("tcp") == nil })
	r.now = r.start("-sf", strconv.Itoa(old.Process.Pid))
	r.ends(old)
	if err := r.once("tcp"); err != nil {
		t.Errorf("after HAProxy: %v", err)
	}
}
