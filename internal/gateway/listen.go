package gateway

import (
	"net"
	"net/netip"
)

// listen opens a listening socket. An IPv4 address is IPv4 only: package net
// takes 0.0.0.0 for the wildcard of both families.
func listen(hostport string) (net.Listener, error) {
	network := "tcp"
	if a, err := netip.ParseAddrPort(hostport); err == nil && a.Addr().Is4() {
		network = "tcp4"
	}
	return net.Listen(network, hostport)
}
