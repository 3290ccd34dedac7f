package lab

import (
	"bytes"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/report"
)

// TestEachCaseIsJudgedRight runs every case of the lab once: each class is named with its culprit, no
// look-alike is accused. "make catalogue" does the same three times, and with one witness less.
func TestEachCaseIsJudgedRight(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.Class+" "+c.Name, func(t *testing.T) {
			t.Parallel()
			trial, err := Try(t.Context(), program, c, []Way{Both}, 400*time.Millisecond)
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
