package correlate

import (
	"slices"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

// withTLS has the client's side stand so in TLS, at both looks.
func withTLS(c *evidence.Case, t evidence.TLS) {
	both(c, func(s *evidence.Stream) {
		changeSide(&s.ClientSide, func(e *evidence.Side) { e.TLS = &t })
	})
}

// inKernelsView has the client's descriptor delivered again and again as the kernel sees it.
func inKernelsView(c *evidence.Case, mask evidence.EventMask) {
	set := &c.Window.Threads[0].Sets[0]
	set.Waits, set.Events = evidence.Waits{}, wakeups
	set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = wakeups
	d := &c.Window.Descriptors[0]
	d.Deliveries, d.Row = []evidence.Delivery{{Mask: mask, Count: wakeups}}, wakeups
}

// TestTLSIsNamedAsTheCause: what TLS waits for, or has kept to itself, is a fact of the finding, by either
// witness, and only when it has to do with the class.
func TestTLSIsNamedAsTheCause(t *testing.T) {
	const out, hup = evidence.EventOut, evidence.EventIn | evidence.EventHup
	record := "TLS: the layer waits for the rest of a record, and the descriptor is armed for write"
	handshake := strings.Replace(record, "the rest of a record", "the peer's part of the handshake", 1)
	kept := "TLS: an error was seen by the TLS layer (connection reset) and not passed up to the stream"
	waits := evidence.TLS{State: evidence.TLSEstablished, WantsRead: true, Incomplete: true}
	tests := []struct {
		name  string
		mask  evidence.EventMask
		tls   evidence.TLS
		class Class
		says  string
	}{
		{"half a record", out, waits, F1, record},
		{"a handshake", out, evidence.TLS{State: evidence.TLSHandshake, WantsRead: true}, F1, handshake},
		{"half a record, but the rest waits to be read", out,
			evidence.TLS{State: evidence.TLSEstablished, Incomplete: true}, F1, ""},
		{"half a record, but something is to be written, too", out,
			evidence.TLS{State: evidence.TLSEstablished, WantsRead: true, Incomplete: true, WantsWrite: true},
			F1, ""},
		{"half a record, but it is the hang-up that nobody takes in", hup, waits, F4, ""},
		{"an error", hup, evidence.TLS{State: evidence.TLSEstablished, Error: "connection reset"}, F4, kept},
		{"a hang-up without an error", hup, evidence.TLS{State: evidence.TLSEstablished}, F4, ""},
	}
	for _, tt := range tests {
		for witness, bring := range map[string]func(*evidence.Case, evidence.EventMask){
			"kernel": inKernelsView, "ledger": again,
		} {
			t.Run(tt.name+" by the "+witness, func(t *testing.T) {
				c := ours()
				bring(c, tt.mask)
				withTLS(c, tt.tls)
				d := Correlate(c)
				if classes := classesOf(d); classes != string(tt.class) {
					t.Fatalf("classes %q, should be %s", classes, tt.class)
				}
				if says := tlsFact(&d.Findings[0]); says != tt.says {
					t.Errorf("it says %q, should say %q", says, tt.says)
				}
			})
		}
	}
}

// TestTLSIsThatOfTheDescriptor: the other side of the stream may have TLS, too.
func TestTLSIsThatOfTheDescriptor(t *testing.T) {
	c := ours()
	clientSide(c, func(e *evidence.Side) { e.TLS = &evidence.TLS{State: "the client's"} })
	serverSide(c, func(e *evidence.Side) { e.TLS = &evidence.TLS{State: "the server's"} })
	s := after(c)
	for fd, want := range map[int]string{s.ClientFD: "the client's", s.ServerFD: "the server's"} {
		f := Finding{Stream: s, FD: &Descriptor{Number: fd}}
		if got := f.tls(); got == nil || got.State != want {
			t.Errorf("descriptor %d has %+v, should have %s", fd, got, want)
		}
	}
}

// tlsFact returns what a finding says of TLS.
func tlsFact(f *Finding) string {
	at := slices.IndexFunc(f.Evidence, func(v Fact) bool { return strings.HasPrefix(v.Text, "TLS") })
	if at < 0 {
		return ""
	}
	return f.Evidence[at].Text
}

// TestAnErrorThatTLSKeepsIsAStall: where nothing tells the stream again it waits in vain, at no cost of CPU.
func TestAnErrorThatTLSKeepsIsAStall(t *testing.T) {
	kept := evidence.TLS{State: evidence.TLSEstablished, Error: "connection reset"}
	tests := []struct {
		name    string
		change  func(*evidence.Case)
		verdict Verdict
	}{
		{"an error", func(*evidence.Case) {}, Stall},
		{"no error", func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.TLS = &evidence.TLS{State: evidence.TLSEstablished} })
		}, Healthy},
		{"an error that has just been met", func(c *evidence.Case) {
			changeSide(&c.Before.Streams[0].ClientSide, func(e *evidence.Side) { e.TLS = nil })
		}, Healthy},
		{"an error, but the stream has run meanwhile", func(c *evidence.Case) { after(c).Calls++ }, Healthy},
		{"an error, but the stream was due", func(c *evidence.Case) { c.Before.Streams[0].Runnable = true },
			Healthy},
		{"an error, but the stream is due", func(c *evidence.Case) { after(c).Runnable = true }, Healthy},
		{"TLS that waits for the rest of a record", func(c *evidence.Case) {
			withTLS(c, evidence.TLS{State: evidence.TLSEstablished, WantsRead: true, Incomplete: true})
		}, Healthy},
		{"TLS that waits for a client that does not read", func(c *evidence.Case) {
			withTLS(c, evidence.TLS{State: evidence.TLSEstablished, WantsWrite: true})
		}, Healthy},
		{"a handshake that is slow", func(c *evidence.Case) {
			withTLS(c, evidence.TLS{State: evidence.TLSHandshake, WantsRead: true})
		}, Healthy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := ours()
			asleep(c)
			withTLS(c, kept)
			tt.change(c)
			d := Correlate(c)
			if d.Verdict != tt.verdict {
				t.Fatalf("verdict %q, should be %q", d.Verdict, tt.verdict)
			}
			if tt.verdict == Stall && (classesOf(d) != "S1" || tlsFact(&d.Findings[0]) == "") {
				t.Errorf("classes %s, TLS: %q", classesOf(d), tlsFact(&d.Findings[0]))
			}
		})
	}
}
