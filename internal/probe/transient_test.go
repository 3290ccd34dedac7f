package probe

import (
	"fmt"
	"syscall"
	"testing"
)

// TestShortageIsNoReasonToGiveUp: what is short now may be there in the next window; what is refused will not
// be allowed then.
func TestShortageIsNoReasonToGiveUp(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.ENOMEM: true, syscall.EMFILE: true, syscall.EAGAIN: true, syscall.EBUSY: true,
		syscall.EPERM: false, syscall.EACCES: false, syscall.ENOENT: false, syscall.EOPNOTSUPP: false,
	} {
		if got := transient(fmt.Errorf("attaching: %w", err)); got != want {
			t.Errorf("%v is transient: %t, should be %t", err, got, want)
		}
	}
}
