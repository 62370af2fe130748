//go:build matrix

package matrix

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// patience bounds every single wait for a peer. It is generous: it is only used
// up when something is broken.
const patience = 15 * time.Second

// slow is patience with parts that run on a virtual machine of their own.
const slow = 90 * time.Second

// nextPort is where freePort looks next: below the ports that the system hands
// out to connections, lest one of them takes it before who is to listen.
var nextPort atomic.Int64

func init() { nextPort.Store(int64(os.Getpid())) }

// freePort is a port that was free a moment ago, on every address: Mosquitto
// 2.0 listens on all.
func freePort() int {
	for {
		port := int(20000 + nextPort.Add(1)%12000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
}

var counter atomic.Int64

// unique is a name that no other case uses.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, counter.Add(1)) }
