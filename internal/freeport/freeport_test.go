package freeport

import (
	"fmt"
	"net"
	"testing"
)

func TestNoPortIsGivenTwiceNorInUse(t *testing.T) {
	seen := map[int]bool{}
	for range 500 {
		port, err := Get()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < first || port > last {
			t.Fatalf("port %d is given twice, or is none of %d to %d", port, first, last)
		}
		seen[port] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
