package gateway

import (
	"net"
	"net/netip"
	"testing"
)

// The wildcard of one family is not that of both.
func TestListenFamily(t *testing.T) {
	cases := []struct {
		address string
		six     bool // may answer over IPv6
	}{
		{"0.0.0.0:0", false},
		{"127.0.0.1:0", false},
		{"[::]:0", true},
		{":0", true},
	}
	for _, c := range cases {
		nl, err := listen(c.address)
		if err != nil {
			t.Fatalf("%s: %v", c.address, err)
		}
		addr := nl.Addr().(*net.TCPAddr).AddrPort()
		if six := addr.Addr().Is6(); six && !c.six {
			t.Errorf("%s: listens on %v", c.address, addr)
		}
		conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port()).String())
		if err != nil {
			t.Errorf("%s: not over IPv4: %v", c.address, err)
		} else {
			_ = conn.Close()
		}
		conn, err = net.Dial("tcp", netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port()).String())
		if err == nil {
			_ = conn.Close()
			if !c.six {
				t.Errorf("%s: answers over IPv6", c.address)
			}
		}
		_ = nl.Close()
	}
}
