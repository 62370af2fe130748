// Command sentinel-mqtt-agent secures MQTT traffic: behind the Sentinel proxy
// as its agent, and in the path as a gateway in front of a broker.
package main

import (
	"context"
	"os"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/cli"
)

func main() { os.Exit(cli.Run(context.Background(), os.Args[1:], cli.Stdio())) }
