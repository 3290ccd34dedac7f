package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/report"
)

// testWindow is how long the diagnoses of the tests watch.
const testWindow = 400 * time.Millisecond

// TestEachClassIsNamedAndHealed runs every case of a class: symptom, verdict with the culprit, healthy
// traffic, runtime API, remedy, recovery.
func TestEachClassIsNamedAndHealed(t *testing.T) {
	for i := range classes {
		c := &classes[i]
		t.Run(c.Class+" "+c.Name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := &story{out: &out, window: testWindow, figures: 300 * time.Millisecond}
			if err := run(t.Context(), program, c, r); err != nil {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}

// TestNoLookAlikeIsAccused runs every case of a look-alike.
func TestNoLookAlikeIsAccused(t *testing.T) {
	for i := range lookAlikes {
		c := &lookAlikes[i]
		t.Run(c.Class+" "+c.Name, func(t *testing.T) {
			t.Parallel()
			trial, err := Try(t.Context(), program, c, []Way{Both}, testWindow)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := trial.Wrong(); wrong != nil {
				var text bytes.Buffer
				if err := report.Text(&text, trial.Diagnoses[0]); err != nil {
					t.Error(err)
				}
				t.Errorf("%v\n%s", wrong, &text)
			}
		})
	}
}

// TestSpinActionEndsEachSpin runs the cases that the proxy can end by itself.
func TestSpinActionEndsEachSpin(t *testing.T) {
	for i := range classes {
		c := &classes[i]
		if !c.heals {
			continue
		}
		t.Run(c.Class+" "+c.Name, func(t *testing.T) {
			t.Parallel()
			took, err := Heal(t.Context(), program, c)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the proxy acted %v after the traffic had begun", took)
		})
	}
}
