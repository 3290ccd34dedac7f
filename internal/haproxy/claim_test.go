package haproxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

// line18 and line26 are of the dumps of 1.8.0 and 2.6.12.
const (
	line18 = "      8 : st=0x22(R:pRa W:pRA) ev=0x11(HeopI) [nuLc] cache=0 owner=0x5 " +
		"iocb=0x55(conn_fd_handler) tmask=0x1 cflg=0x00203310 sv=mx2/smtp-out\n"
	line26 = "     13 : st=0x010121(cL heopI W:sRa R:srA) ref=0 gid=1 tmask=0x2 umask=0x0 prmsk=0x1 " +
		"pwmsk=0x0 owner=0x5 iocb=0x55(sock_conn_iocb) back=1 cflg=0x10000300 cerr=0 fam=ipv4 " +
		"lport=43244 rport=25071 sv=smtp/mx1 mux=PASS ctx=0x5 xprt=RAW\n"
	listener26 = "      4 : st=0x100121(cl heopI W:sRa R:srA) ref=0 gid=1 tmask=0x3 owner=0x5 " +
		"iocb=0x55(sock_accept_iocb) l.st=RDY fe=smtp fam=ipv4 lport=25070\n"
	pipe26 = "      7 : st=0x000121(cl heopI W:sRa R:srA) ref=0 gid=1 tmask=0x2 owner=0x5 " +
		"iocb=0x55(poller_pipe_io_handler)\n"
)

func TestClaimsAreHeldAgainstTheKernelsTable(t *testing.T) {
	tcp := func(local, remote, state string) evidence.Socket {
		return evidence.Socket{Kind: "tcp", Local: local, Remote: remote, State: state}
	}
	server := evidence.Claim{FD: 13, Reads: true, Events: evidence.EventIn, Handler: "sock_conn_iocb",
		Threads: "0x2", Server: "smtp/mx1"}
	old := evidence.Claim{FD: 8, Writes: true, Events: evidence.EventIn | evidence.EventHup,
		Handler: "conn_fd_handler", Threads: "0x1", Server: "mx2/smtp-out"}
	connection := tcp("127.0.0.1:43244", "127.0.0.1:25071", "ESTABLISHED")
	for _, c := range []struct {
		name, line string
		fd         int
		socket     evidence.Socket
		want       []evidence.Claim
	}{
		{"the connection", line26, 13, connection, []evidence.Claim{server}},
		{"another port of the peer", line26, 13, tcp("127.0.0.1:43244", "127.0.0.1:25072", ""), nil},
		{"another port of its own", line26, 13, tcp("127.0.0.1:43245", "127.0.0.1:25071", ""), nil},
		{"the kernel has given the ports back", line26, 13, tcp("127.0.0.1:0", "127.0.0.1:0", ""),
			[]evidence.Claim{server}},
		{"a listener", line26, 13, tcp("127.0.0.1:43244", "", "LISTEN"), nil},
		{"a pipe", line26, 13, evidence.Socket{Kind: "pipe"}, nil},
		{"nothing", line26, 13, evidence.Socket{Kind: evidence.SocketClosed}, nil},
		{"before there were ports", line18, 8, tcp("127.0.0.1:1", "127.0.0.1:2", "ESTABLISHED"),
			[]evidence.Claim{old}},
		{"a listener before there were ports", line18, 8, tcp("127.0.0.1:1", "", "LISTEN"), nil},
		{"the listener", listener26, 4, tcp("0.0.0.0:25070", "", "LISTEN"), []evidence.Claim{{FD: 4,
			Reads: true, Events: evidence.EventIn, Handler: "sock_accept_iocb", Threads: "0x3",
			Frontend: "smtp"}}},
		{"the pipe", pipe26, 7, evidence.Socket{Kind: "pipe"}, []evidence.Claim{{FD: 7, Reads: true,
			Events: evidence.EventIn, Handler: "poller_pipe_io_handler", Threads: "0x2"}}},
		{"a connection in the place of the pipe", pipe26, 7, connection, nil},
	} {
		p := healthy()
		_, after, d := pair(t, p.old(), p.old())
		w := &evidence.Window{Descriptors: []evidence.Descriptor{
			{FD: c.fd, EpollFD: -1, Socket: evidence.Know(c.socket)}}}
		if err := d.Claims(strings.NewReader(listener26+line18+pipe26+line26+c.line), []int{c.fd},
			w); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, after.Claims); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if said := strings.Join(after.Unknown, "; "); (said == "") != (c.want != nil) {
			t.Errorf("%s: unknown is %q", c.name, said)
		}
	}
}

func TestWhichDescriptorsAreAskedAbout(t *testing.T) {
	w := &evidence.Window{}
	add := func(fd int, delivered uint64, reads evidence.IO) {
		w.Descriptors = append(w.Descriptors, evidence.Descriptor{FD: fd, Read: reads,
			Deliveries: []evidence.Delivery{{Mask: evidence.EventIn, Count: delivered}}})
	}
	add(20, leastDeliveries-1, evidence.IO{})
	add(21, 1000, evidence.IO{Calls: 1000, Bytes: 1000})
	add(22, 1000, evidence.IO{Calls: 1000, Again: 1000})
	add(23, 5000, evidence.IO{})
	p := healthy()
	orphan(&p)
	_, after, d := pair(t, p.old(), p.old())
	if got, want := d.Questionable(w), []int{23, 22, after.Streams[0].ServerFD}; !slices.Equal(got, want) {
		t.Errorf("asks about %v, want %v", got, want)
	}
	if got := new(Dumps).Questionable(w); got != nil {
		t.Errorf("asks about %v though the answers have no place", got)
	}
	for fd := range 2 * maxAsked {
		add(100+fd, 9000, evidence.IO{})
	}
	if got := d.Questionable(w); len(got) != maxAsked {
		t.Errorf("asks about %v", got)
	}
}

func TestTheCountersOfEachLoop(t *testing.T) {
	several := "thread_id: 1 (1..2)\nloops: 20 [ 9 11 ]\nwake_tasks: 3 [ 1 2 ]\navg: 2\n\nloops: 7\n"
	one := "thread_id: 1 (1..1)\nloops: 24\nwake_tasks: 13\n\n"
	loops := func(thread int, n, tasks uint64) evidence.Activity {
		return evidence.Activity{Thread: thread, Loops: n, Counters: map[string]uint64{"wake_tasks": tasks}}
	}
	for _, c := range []struct {
		name, text string
		threads    evidence.Observed[int]
		want       []evidence.Activity
	}{
		{"one for each thread", several, evidence.Know(2), []evidence.Activity{loops(1, 9, 1),
			loops(2, 11, 2)}},
		{"of the only thread", one, evidence.Know(1), []evidence.Activity{loops(1, 24, 13)}},
		{"of one of several threads", one, evidence.Know(2), nil},
		{"of nobody knows which thread", one, evidence.Observed[int]{}, nil},
		{"none", "Permission denied\n\n", evidence.Know(1), nil},
	} {
		a, err := ReadActivity(strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, a.Loops(Info{Threads: c.threads})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if (a.Begin == "Permission denied") != (c.want == nil && c.name == "none") {
			t.Errorf("%s: it begins with %q", c.name, a.Begin)
		}
	}
}
