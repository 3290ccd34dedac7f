package recording

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

// public are the texts of a case that do not tell whose it is. A new field is a secret until it is here.
var public = []string{
	"Case.After.Activity.Counters.key", "Case.After.Claims.Handler", "Case.After.Claims.Threads",
	"Case.After.Listeners.Limit", "Case.After.Process.Kind", "Case.After.Process.Program.EventLoop",
	"Case.After.Process.Program.Name", "Case.After.Process.Program.Role",
	"Case.After.Process.Program.Version", "Case.After.Streams.Cause",
	"Case.After.Streams.ClientSide.TLS.Error", "Case.After.Streams.ClientSide.TLS.State",
	"Case.After.Streams.ClientState",
	"Case.After.Streams.History.Cause", "Case.After.Streams.History.ClientState",
	"Case.After.Streams.History.ClientTLS",
	"Case.After.Streams.History.RequestIn", "Case.After.Streams.History.RequestOut",
	"Case.After.Streams.History.ResponseIn", "Case.After.Streams.History.ResponseOut",
	"Case.After.Streams.History.ServerState", "Case.After.Streams.History.ServerTLS",
	"Case.After.Streams.ID",
	"Case.After.Streams.ServerSide.TLS.Error", "Case.After.Streams.ServerSide.TLS.State",
	"Case.After.Streams.ServerState",
	"Case.After.Streams.Timers.Name", "Case.After.Workers.Running",
	"Case.Process.Kind", "Case.Process.Program.EventLoop", "Case.Process.Program.Name",
	"Case.Process.Program.Role", "Case.Process.Program.Version",
	"Case.Window.Descriptors.Before.Kind", "Case.Window.Descriptors.Before.State",
	"Case.Window.Descriptors.Socket.Kind", "Case.Window.Descriptors.Socket.State",
	"Case.Window.Hooks.Files", "Case.Window.Hooks.Samples", "Case.Window.Hooks.Socket",
	"Case.Window.Hooks.Syscall", "Case.Window.Hooks.Traffic", "Case.Window.Resets.Side",
	"Case.Window.Samples.Stacks.Kernel.Function", "Case.Window.Samples.Stacks.User.Function",
}

func TestNothingSecretIsLeftOfACase(t *testing.T) {
	const secret = "/home/somebody/"
	c := full(t, func(path string) string { return secret + path })
	var left []string
	walk(reflect.ValueOf(Anonymize(c)), "Case", func(path, text string) {
		path = strings.Replace(path, "Case.Before.", "Case.After.", 1)
		if strings.Contains(text, "somebody") && !slices.Contains(left, path) {
			left = append(left, path)
		}
	})
	slices.Sort(left)
	if diff := cmp.Diff(public, left); diff != "" {
		t.Errorf("what is left: %s", diff)
	}
	if c.Process.Command != secret+"Case.Process.Command" {
		t.Error("the case itself was changed")
	}
}

// walk visits all texts.
func walk(v reflect.Value, path string, visit func(path, text string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), path, visit)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walk(v.Index(i), path, visit)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			walk(key, path+".key", visit)
			walk(v.MapIndex(key), path, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if name == "value" { // of an Observed
				walk(v.Field(i), path, visit)
				continue
			}
			walk(v.Field(i), path+"."+name, visit)
		}
	case reflect.String:
		visit(path, v.String())
	}
}

func TestAddressesKeepTheirKind(t *testing.T) {
	m := newMask()
	tests := []struct{ address, want string }{
		{"192.0.2.7:25", "240.0.0.1:25"},
		{"192.0.2.8:25", "240.0.0.2:25"},
		{"192.0.2.7:26", "240.0.0.1:26"},
		{"192.168.7.1:25", "10.0.0.1:25"},
		{"127.0.0.1:25", "127.0.0.1:25"},
		{"0.0.0.0:25", "0.0.0.0:25"},
		{"[::]:25", "[::]:25"},
		{"[2a00::7]:25", "[2001:db8::1]:25"},
		{"[fd12::7]:25", "[fd00::1]:25"},
		{"[fe80::7%eth0]:25", "[fe80::1]:25"},
		{"[::ffff:192.0.2.7]:25", "[::ffff:240.0.0.1]:25"},
		{"192.0.2.7", "240.0.0.1"},
		{"mx.example:25", "host-1:25"},
		{"unix:1", "unix:1"},
		{"*:25", "*:25"},
		{"/run/mail.sock", "/path-1"},
		{"@mail", "@path-2"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := m.address(tt.address); got != tt.want {
			t.Errorf("%q becomes %q, should become %q", tt.address, got, tt.want)
		}
	}
	for i := range 70_000 {
		m.host(netip.MustParseAddr(fmt.Sprintf("11.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	given := map[string]bool{}
	for _, v := range m.hosts {
		given[v.String()] = true
	}
	if len(given) != len(m.hosts) {
		t.Errorf("%d addresses became %d", len(m.hosts), len(given))
	}
}

func TestWhatBelongsTogetherStillDoes(t *testing.T) {
	c := &evidence.Case{
		Process: evidence.Process{Command: "haproxy", Kind: evidence.KindHAProxy,
			Surroundings: []string{"it runs in container " + strings.Repeat("0f", 32)}},
		Socket: "/srv/haproxy.sock",
		Unknown: []string{
			"the state: dial unix /srv/haproxy.sock: denied; 192.0.2.7 and [2a00::7]:25 (see mail)"},
		Window: &evidence.Window{
			Threads: []evidence.Thread{{Name: "haproxy"}},
			Descriptors: []evidence.Descriptor{{FD: 7, Socket: evidence.Know(evidence.Socket{
				Local: "10.9.8.7:40001", Remote: "192.0.2.7:25"})}},
			Resets: []evidence.Reset{{Local: "10.9.8.7:40001", Remote: "192.0.2.7:25"}},
		},
		After: &evidence.Snapshot{Streams: []evidence.Stream{{
			Frontend: "mail", Backend: "mail", Server: "mx1", Upstream: "192.0.2.7:25"}}},
	}
	c = Anonymize(c)
	s, _ := c.Window.Descriptors[0].Socket.Get()
	stream, reset := c.After.Streams[0], c.Window.Resets[0]
	got := []string{c.Process.Command, c.Process.Surroundings[0], c.Socket, c.Unknown[0],
		c.Window.Threads[0].Name, s.Local, s.Remote, reset.Local, reset.Remote, stream.Frontend,
		stream.Backend, stream.Server, stream.Upstream}
	want := []string{"haproxy", "it runs in container container-1", "/path-1",
		"the state: dial unix /path-1: denied; 240.0.0.1 and [2001:db8::1]:25 (see proxy-1)",
		"haproxy", "10.0.0.1:40001", "240.0.0.1:25", "10.0.0.1:40001", "240.0.0.1:25", "proxy-1",
		"proxy-1", "server-1", "240.0.0.1:25"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestNothingSecretIsLeftOfASentence: what Go's errors and our own sentences name.
func TestNothingSecretIsLeftOfASentence(t *testing.T) {
	for text, want := range map[string]string{
		"connect 2a00::7: refused":                 "connect 2001:db8::1: refused",
		"by 2a00::7.":                              "by 2001:db8::1.",
		"dial tcp: lookup mx.example: no such":     "dial tcp: lookup host-1: no such",
		"asking mx.example:9999: refused":          "asking host-1:9999: refused",
		"lookup mx.example on 10.1.2.3:53: no":     "lookup host-1 on 10.0.0.1:53: no",
		"asking mailhost:9999: refused":            "asking host-1:9999: refused",
		"listens on unix@/srv/a.sock":              "listens on unix@/path-1",
		"the file [/srv/a.cfg]":                    "the file [/path-1]",
		"open \"/srv/our mail/a.sock\": denied":    "open \"/path-1\": denied",
		"kernel 6.1, libc.so.6, tp_btf/sys_exit":   "kernel 6.1, libc.so.6, tp_btf/sys_exit",
		"see /usr/lib/x and 12:30, 5: \"show fd\"": "see /usr/lib/x and 12:30, 5: \"show fd\"",
	} {
		if got := newMask().sentence(text); got != want {
			t.Errorf("%q becomes %q, should become %q", text, got, want)
		}
	}
}

// TestProxiesMayHaveNamesOfTheirOwn: only the usual names of the programs are no secret.
func TestProxiesMayHaveNamesOfTheirOwn(t *testing.T) {
	for command, want := range map[string]string{"haproxy": "haproxy", "whyspin": "whyspin",
		"our-mail-lb": "program-1"} {
		c := &evidence.Case{Process: evidence.Process{Command: command, Kind: evidence.KindHAProxy,
			Version: "2.6.12"}}
		if got := Anonymize(c).Process; got.Command != want || got.Version != "2.6.12" {
			t.Errorf("%q becomes %q %q, should become %q", command, got.Command, got.Version, want)
		}
	}
}
