// Command recordings makes those recordings in testdata/recording that come from live processes: each scene
// brings a class of the catalogue or a look-alike about, has whyspin record it, and requires the verdict
// that it is to show.
//
//	make recordings [SCENE=name]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/lab"
	"github.com/whyspin/whyspin/internal/recording"
)

func main() {
	k := &keeper{}
	flag.StringVar(&k.programs, "programs", "bin", "the `directory` of whyspin and spinlab")
	flag.StringVar(&k.directory, "o", "testdata/recording", "the `directory` of the recordings")
	only := flag.String("scene", "", "make the scenes whose `name` begins so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	made, failed := 0, 0
	try := func(name string, keep func() error) {
		if !strings.HasPrefix(name, *only) {
			return
		}
		made++
		if err := keep(); err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "recordings: %s: %v\n", name, err)
		}
	}
	for i := range scenes {
		try(scenes[i].name, func() error { return k.keep(ctx, &scenes[i]) })
	}
	for _, c := range lab.Cases() {
		name := c.Class + "-" + c.Name
		try(name, func() error { return k.keepCase(ctx, name, c) })
	}
	if failed > 0 || made == 0 {
		fmt.Fprintf(os.Stderr, "recordings: %d of %d scenes failed\n", failed, made)
		os.Exit(1)
	}
}

const (
	// watchFor is how long a recording lasts: long enough for a hundred samples of one core in two.
	watchFor = 500 * time.Millisecond
	// attempts bounds the looks at a scene that does not show what it should yet.
	attempts = 20
	// maxBytes is how large a recording gets at most: they are kept for ever in the history. Most have 3 KiB;
	// a storm of resets takes the most.
	maxBytes = 50 << 10
)

// keeper makes recordings.
type keeper struct{ programs, directory string }

// keep brings a scene about and records it.
func (k *keeper) keep(ctx context.Context, s *scene) error {
	ctx, end := context.WithCancel(ctx)
	p := &place{ctx: ctx, programs: k.programs}
	defer p.clear()
	defer end()
	var err error
	if p.directory, err = os.MkdirTemp("", "whyspin-recordings-"); err != nil {
		return err
	}
	pid, err := s.begin(p)
	if err != nil {
		return err
	}
	file := filepath.Join(p.directory, "recording")
	var said string
	for range attempts {
		if said, err = k.diagnose(ctx, pid, file); err != nil {
			return err
		}
		if said == s.verdict {
			r, err := read(file)
			if err != nil {
				return err
			}
			r.Story = s.story
			return k.publish(s.name, r)
		}
	}
	return fmt.Errorf("the verdict is %q, should be %q", said, s.verdict)
}

// diagnose records a process and returns the verdict in two words: "spin F1", "healthy".
func (k *keeper) diagnose(ctx context.Context, pid int, file string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(k.programs, "whyspin"), "diagnose", "--pid",
		strconv.Itoa(pid), "--for", watchFor.String(), "--json", "--anonymize", "--record", file)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || complaint.Len() > 0) {
		return "", fmt.Errorf("diagnosing it: %w: %s", err, &complaint)
	}
	var d struct {
		Verdict  string
		Findings []struct{ Class string }
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return "", fmt.Errorf("reading the verdict: %w", err)
	}
	if len(d.Findings) > 0 {
		d.Verdict += " " + d.Findings[0].Class
	}
	return strings.TrimSpace(d.Verdict), nil
}

func read(file string) (*recording.Recording, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return recording.Read(bytes.NewReader(text))
}

// keepCase records a case of the lab.
func (k *keeper) keepCase(ctx context.Context, name string, c *lab.Case) error {
	program := filepath.Join(k.programs, "whyspin")
	seen, err := lab.Evidence(ctx, program, c, watchFor)
	if err != nil {
		return err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	kernel, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
	return k.publish(name, &recording.Recording{
		Kernel: kernel, At: time.Now().UTC().Truncate(time.Second), Story: c.Shows,
		Anonymized: true, Case: recording.Anonymize(seen),
	})
}

// publish writes a recording to where it stays.
func (k *keeper) publish(name string, r *recording.Recording) error {
	r.MadeBy = "make recordings"
	var packed bytes.Buffer
	if err := recording.Write(&packed, r); err != nil {
		return err
	}
	if packed.Len() > maxBytes {
		return fmt.Errorf("the recording has %d bytes, should have at most %d", packed.Len(), maxBytes)
	}
	file := filepath.Join(k.directory, name+".json.gz")
	if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
		return err
	}
	_, err := fmt.Printf("%-28s %6d bytes  %s\n", name, packed.Len(), r.Story)
	return err
}
