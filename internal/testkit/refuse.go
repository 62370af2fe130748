package testkit

import (
	"net"
	"testing"
)

// Refuses is a loopback address that refuses connections until the end of the
// test. The near end of a connection holds its port: the port of a closed
// listener may be another listener's a moment later.
func Refuses(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return c.LocalAddr().String()
}
