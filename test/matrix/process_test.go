//go:build matrix

package matrix

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// patience bounds every single wait for a peer. It is generous: it is only used
// up when something is broken.
const patience = 2 * time.Minute

// slow is patience with parts that run on a virtual machine of their own.
const slow = 2 * patience

// freePort is a port that nobody else gets while the tests run.
func freePort() int {
	port, err := testkit.Port()
	if err != nil {
		panic(err)
	}
	return port
}

var counter atomic.Int64

// unique is a name that no other case uses.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, counter.Add(1)) }
