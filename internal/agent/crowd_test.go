package agent

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestSocketOwner: the socket file gets the mode and the group of the
// configuration, by number or by name.
func TestSocketOwner(t *testing.T) {
	gid := os.Getgid()
	if os.Geteuid() == 0 {
		gid = 1 // any will do
	}
	group, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{group.Gid, group.Name} {
		a := open(t, conf(`"agent":{"socket-mode":"0620","socket-group":"`+name+`"}`), nil)
		info, err := os.Stat(a.socket)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sys().(*syscall.Stat_t).Gid); got != gid || info.Mode().Perm() != 0o620 {
			t.Errorf("group %q: file of group %d, mode %v; want %d, 0620", name, got, info.Mode().Perm(), gid)
		}
	}
}

// TestFlood: connections that send as fast as they can, over either transport,
// hold up nobody else for as long as a decision may take.
func TestFlood(t *testing.T) {
	a := open(t, conf(), nil, overRPC)
	const limit = time.Second
	stood := testkit.Stood(t)
	var stop atomic.Bool
	var floods atomic.Int64
	done := make(chan struct{})
	flood := func(p *testkit.Proxy, id string) {
		defer func() { done <- struct{}{} }()
		w := p.Open(id)
		if _, err := w.Try(mqtt.Client, wire.OpBinary, true, testkit.Connect(v4, id)); err != nil {
			t.Error(err)
			return
		}
		for !stop.Load() {
			if _, err := w.Try(mqtt.Client, wire.OpBinary, true, publish("dev/a", 0)); err != nil {
				t.Error(err)
				return
			}
			floods.Add(1)
		}
	}
	const each = 4
	for i := range each {
		go flood(a.proxy(t, wire.V1), fmt.Sprint("v1-", i))
		go flood(a.proxy(t, wire.V2), fmt.Sprint("v2-", i))
		go flood(a.rpcProxy(t, wire.V1), fmt.Sprint("grpc-", i))
	}
	p := a.proxy(t, wire.V2)
	w := connect(t, p, "quiet")
	for range 200 {
		began, lost := time.Now(), stood()
		want(t, "meanwhile", w.Send(t, mqtt.Client, publish("dev/a", 1)), wire.WSAllow)
		if took := time.Since(began) - (stood() - lost); took > limit {
			t.Errorf("answered after %v while others flood", took)
		}
	}
	stop.Store(true)
	for range 3 * each {
		<-done
	}
	if floods.Load() == 0 {
		t.Error("nobody flooded")
	}
}

// TestNoReader: a proxy that does not read its answers loses its connection,
// and others do not notice.
func TestNoReader(t *testing.T) {
	a := open(t, conf(`"agent":{"decision-timeout-ms":200}`), nil, overRPC)
	r := dial(t, a, wire.V2)
	if err := r.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	r.write(t, v2(wire.HandshakeRequest, shake))
	r.next(t, wire.HandshakeResponse)
	ask := v2(wire.Ping, `{"sequence":7,"timestamp_ms":1767225600000}`)
	var many []byte
	for range 1000 {
		many = append(many, ask...)
	}
	cut := make(chan error, 2)
	go func() {
		for {
			if _, err := r.Write(many); err != nil {
				cut <- err
				return
			}
		}
	}()
	s := shakenStream(t, a.dialRPC(t))
	go func() {
		for {
			if err := s.stream.Send(ping(1)); err != nil {
				cut <- err
				return
			}
		}
	}()
	limit := time.After(testkit.Patience)
	for n := 0; n < 2; {
		select {
		case err := <-cut:
			if os.IsTimeout(err) {
				t.Error("the connection is still there")
			}
			n++
		case <-limit:
			t.Fatal("a proxy that does not read keeps its connection")
		default:
			p := a.proxy(t, wire.V1)
			w := p.Open(fmt.Sprint("other", time.Now().UnixNano()))
			if r, err := w.Try(mqtt.Client, wire.OpClose, true, nil); err == nil {
				want(t, "meanwhile", r, wire.WSAllow)
			} // else the machine stood still: nothing is answered late
			p.Close()
		}
	}
}
