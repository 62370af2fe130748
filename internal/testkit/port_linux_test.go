package testkit

import (
	"fmt"
	"net"
	"testing"
)

// TestPort: a port that is held refuses connections, is given to nobody who
// does not ask for it, and may be listened on again and again.
func TestPort(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d twice", port)
		}
		seen[port] = true
	}
	for port := range seen {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s does not refuse", addr)
		}
		for range 2 {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatalf("a server does not get it: %v", err)
			}
			l.Close()
		}
	}
}
