package target

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

func TestProxiesAreToldFromOtherCommands(t *testing.T) {
	tests := []struct {
		line string
		want bool
	}{
		{"whyspin run -f a.cfg", true},
		{"whyspin -f a.cfg -db", true},
		{"whyspin -c -f a.cfg", false},
		{"whyspin diagnose --pid 1", false},
		{"whyspin demo", false},
		{"whyspin", false},
	}
	for _, tt := range tests {
		if got := isProxy(strings.Fields(tt.line)); got != tt.want {
			t.Errorf("%q: %t, should be %t", tt.line, got, tt.want)
		}
	}
}

func TestIdentifyThisProcess(t *testing.T) {
	p, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.Command == "" || p.Kind != evidence.KindGeneric || !p.Started.IsKnown() {
		t.Errorf("%+v", p)
	}
	const impossible = 1 << 22 // PID_MAX_LIMIT of the kernel
	if _, err := Identify(impossible + 1); !errors.Is(err, ErrGone) {
		t.Errorf("a process that cannot exist: %v", err)
	}
}

func TestFindSaysWhatItFound(t *testing.T) {
	if _, err := Find("no-such-program-here"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	_, err := only([]int{3, 7}, "proxy", nil)
	if !errors.Is(err, ErrAmbiguous) || !strings.HasSuffix(err.Error(), "choose one with --pid: 3, 7") {
		t.Errorf("error %v", err)
	}
}
