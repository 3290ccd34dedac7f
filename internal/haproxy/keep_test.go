package haproxy

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/whyspin/whyspin/internal/recording"
)

// kept are the dumps that are recordings, too: for those who look for one of each class, and for the mutants
// that are made of them.
var kept = []struct{ folder, name, story string }{
	{"founding-report", "T3-haproxy-report",
		"the session of the founding report; a dump is all there is, nothing was seen of the kernel's side"},
	{"founding-1.6.0", "T3-haproxy-1.6.0", "the founding case in HAProxy 1.6.0, by dumps, strace and ss"},
	{"founding-1.7.0", "T3-haproxy-1.7.0", "the founding case in HAProxy 1.7.0, by dumps, strace and ss"},
	{"founding-1.8.0", "T3-haproxy-1.8.0", "the founding case in HAProxy 1.8.0, by dumps, strace and ss"},
	{"founding-1.9-dev0", "T3-haproxy-1.9", "the founding case in HAProxy 1.9-dev0, by dumps, strace and ss"},
	{"founding-1.9-dev0-with-traffic", "T3-haproxy-traffic",
		"the founding case in HAProxy 1.9-dev0 beside healthy traffic"},
	{"founding-1.9-dev0-idle-leak", "T3i-haproxy",
		"the founding case without a tunnel timeout: the session is never woken and never ends"},
	{"healthy-1.8.0", "healthy-haproxy-1.8.0", "HAProxy 1.8.0 at work"},
	{"healthy-2.6.12", "healthy-haproxy-2.6.12", "HAProxy 2.6.12 at work"},
	{"healthy-3.2-dev6", "healthy-haproxy-3.2", "HAProxy 3.2-dev6 at work"},
}

func TestDumpsAreKeptAsRecordings(t *testing.T) {
	for _, k := range kept {
		want := &recording.Recording{MadeBy: "go test ./internal/haproxy -update", Story: k.story,
			Case: join(t, filepath.Join(dumps, k.folder))}
		var packed bytes.Buffer
		if err := recording.Write(&packed, want); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("../../testdata/recording", k.name+".json.gz")
		if *update {
			if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// What is written and read has no empty lists: want goes the same way.
		got, err := recording.Read(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if want, err = recording.Read(&packed); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is not what is in the dumps: run go test ./internal/haproxy -update", file)
		}
	}
}
