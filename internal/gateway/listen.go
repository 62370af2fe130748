package gateway

import (
	"net"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// listen opens a listening socket.
func listen(hostport string) (net.Listener, error) {
	return net.Listen(config.ListenNetwork(hostport), hostport)
}
