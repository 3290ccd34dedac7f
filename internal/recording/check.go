package recording

import (
	"errors"
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// check returns what is wrong with a case that was read: what no diagnosis could have gone by.
func check(c *evidence.Case) error {
	if c == nil {
		return errors.New("there is no case in it")
	}
	if c.Before != nil && c.After != nil && (c.Before.At < 0 || c.After.At <= c.Before.At) {
		return errors.New("its state after the window is not younger than that before it")
	}
	if c.Window == nil {
		return nil
	}
	if c.Window.Start < 0 || !c.Window.End.IsSet() || c.Window.End <= c.Window.Start {
		return fmt.Errorf("its window is from %v to %v", c.Window.Start, c.Window.End)
	}
	for i := range c.Window.Threads {
		for _, s := range c.Window.Threads[i].Sets {
			if s.Owner > evidence.OwnerRuntime {
				return fmt.Errorf("epoll set %d has an unknown owner: %d", s.FD, uint8(s.Owner))
			}
		}
	}
	return nil
}
