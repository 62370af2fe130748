//go:build matrix

package matrix

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// cliConn is what programs of the command line make of a conn: a subscriber
// that runs from subscribe on, and publishers that come and go, with an id of
// their own.
type cliConn struct {
	o   options
	sub *testkit.Process
	// Fixed after subscribe.
	filter string
	parse  func(out, filter string) []message

	// subscriber is the command line of a subscription.
	subscriber func(qos byte, filter string) []string
	// granted reads the answer to it off the output.
	granted func(out string) (codes []int, ok bool)
	publisher
}

// publisher sends messages that are alike but for their payload.
type publisher func(o options, same []message) error

func (c *cliConn) subscribe(qos byte, filters ...string) (codes []int, err error) {
	if len(filters) != 1 || c.sub != nil {
		return nil, errors.New("one subscription only")
	}
	c.filter = filters[0]
	if parts := strings.SplitN(c.filter, "/", 3); parts[0] == "$share" {
		c.filter = parts[2]
	}
	argv := append([]string{"-oL"}, c.subscriber(qos, filters[0])...)
	if c.sub, err = testkit.Launch(exec.Command("stdbuf", argv...)); err != nil {
		return nil, err
	}
	err = testkit.Poll("SUBACK", patience, func() (ok bool) {
		codes, ok = c.granted(c.sub.Out.String())
		return ok || c.sub.Ended() != nil
	})
	return codes, errors.Join(err, c.sub.Ended())
}

func (c *cliConn) publish(all ...message) error {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Payload != "" && alike(all[0], all[n]) {
			n++
		}
		if err := c.publisher(c.o, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func alike(a, b message) bool {
	return a.Topic == b.Topic && a.QoS == b.QoS && a.Retain == b.Retain && a.User == nil && b.User == nil
}

// stall is how long messages may stay away in the middle of a burst.
const stall = patience / 4

func (c *cliConn) receive(count int) (got []message, err error) {
	have, since := 0, time.Now()
	_ = testkit.Poll("messages", patience, func() bool { // fewer are an answer too
		if got = c.parse(c.sub.Out.String(), c.filter); len(got) > have {
			have, since = len(got), time.Now()
		}
		stalled := have > 0 && time.Since(since) > stall
		return len(got) >= count || stalled || c.sub.Ended() != nil
	})
	if len(got) < count {
		err = c.sub.Ended()
	}
	return got, err
}

func (c *cliConn) disconnect() error {
	if c.sub != nil {
		c.sub.Stop()
	}
	return nil
}

func (c *cliConn) drop() error {
	if c.sub == nil {
		return errors.New("nothing to drop without a subscription")
	}
	c.sub.Kill()
	return nil
}

func when(on bool, args ...string) []string {
	if on {
		return args
	}
	return nil
}

// command runs one to its end.
func command(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, testkit.Tail(string(out), 10))
	}
	return nil
}

// mosquittoFormat puts what we compare on a line, the payload last.
const mosquittoFormat = "|%t|%q|%r|%C|%R|%D|%F|%P|%p"

func openMosquitto(o options) (conn, ack, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, ack{}, err
	}
	base := func(suffix string, qos byte) []string {
		return []string{
			"-h", u.Hostname(), "-p", u.Port(), "-V", map[string]string{"3.1.1": "mqttv311", "5.0": "mqttv5"}[o.Version],
			"-i", o.ID + suffix, "-q", strconv.Itoa(int(qos)),
		}
	}
	c := &cliConn{o: o, parse: mosquittoMessages}
	c.subscriber = func(qos byte, filter string) []string {
		argv := append(append([]string{"mosquitto_sub"}, base("", qos)...), "-d", "-t", filter, "-F", mosquittoFormat)
		argv = append(argv, when(!o.Clean, "-c")...)
		argv = append(argv, when(o.Expiry > 0 && o.Version == "5.0", "-x", fmt.Sprint(o.Expiry))...)
		if w := o.Will; w != nil {
			argv = append(argv, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", strconv.Itoa(int(w.QoS)))
			argv = append(argv, when(w.Retain, "--will-retain")...)
		}
		return argv
	}
	c.granted = func(out string) (codes []int, ok bool) {
		_, rest, ok := strings.Cut(out, "Subscribed (mid: 1): ")
		line, _, whole := strings.Cut(rest, "\n")
		for s := range strings.SplitSeq(line, ", ") {
			n, _ := strconv.Atoi(s)
			codes = append(codes, n)
		}
		return codes, ok && whole
	}
	c.publisher = func(_ options, same []message) error {
		m := same[0]
		argv := append(base("p", m.QoS), "-t", m.Topic)
		argv = append(argv, when(m.Retain, "-r")...)
		if o.Version == "5.0" {
			argv = append(argv, when(m.ContentType != "", "-D", "publish", "content-type", m.ContentType)...)
			argv = append(argv, when(m.ResponseTopic != "", "-D", "publish", "response-topic", m.ResponseTopic)...)
			argv = append(argv, when(m.Correlation != "", "-D", "publish", "correlation-data", m.Correlation)...)
			argv = append(argv, when(m.Format != 0, "-D", "publish", "payload-format-indicator", strconv.Itoa(m.Format))...)
			for _, u := range m.User {
				argv = append(argv, "-D", "publish", "user-property", u[0], u[1])
			}
		}
		switch {
		case m.Payload == "":
			return command("", "mosquitto_pub", append(argv, "-n")...)
		case len(same) == 1:
			return command(m.Payload, "mosquitto_pub", append(argv, "-s")...)
		}
		var lines strings.Builder
		for _, m := range same {
			lines.WriteString(m.Payload + "\n")
		}
		return command(lines.String(), "mosquitto_pub", append(argv, "-l")...)
	}
	return c, ack{}, nil
}

func mosquittoMessages(out, _ string) (all []message) {
	for line := range strings.Lines(out) {
		f := strings.SplitN(line, "|", 10)
		if len(f) != 10 || f[0] != "" || !strings.HasSuffix(line, "\n") {
			continue
		}
		m := message{Topic: f[1], Retain: f[3] == "1", ContentType: f[4], ResponseTopic: f[5], Correlation: f[6], Payload: strings.TrimSuffix(f[9], "\n")}
		qos, _ := strconv.Atoi(f[2])
		m.QoS = byte(qos)
		m.Format, _ = strconv.Atoi(f[7])
		for pair := range strings.FieldsSeq(f[8]) {
			k, v, _ := strings.Cut(pair, ":")
			m.User = append(m.User, [2]string{k, v})
		}
		all = append(all, m)
	}
	return all
}

func openPahoC(o options) (conn, ack, error) {
	base := func(suffix string, qos byte) []string {
		return []string{
			"-c", o.URL, "-V", map[string]string{"3.1.1": "311", "5.0": "5"}[o.Version],
			"-i", o.ID + suffix, "-q", strconv.Itoa(int(qos)), "-k", "30", "--trace", "protocol",
		}
	}
	c := &cliConn{o: o, parse: pahoCMessages}
	c.subscriber = func(qos byte, filter string) []string {
		argv := append(append([]string{"paho_c_sub"}, base("", qos)...), "-t", filter)
		if w := o.Will; w != nil {
			argv = append(argv, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", strconv.Itoa(int(w.QoS)))
			argv = append(argv, when(w.Retain, "--will-retain")...)
		}
		return argv
	}
	c.granted = func(out string) ([]int, bool) { return nil, strings.Contains(out, " <- SUBACK msgid: 1") }
	c.publisher = func(_ options, same []message) error {
		m := same[0]
		argv := append(base("p", m.QoS), "-t", m.Topic)
		argv = append(argv, when(m.Retain, "-r")...)
		switch {
		case m.Payload == "":
			return command("", "paho_c_pub", append(argv, "-n")...)
		case len(same) > 1:
			return pahoCLines(argv, same)
		}
		dir, err := os.MkdirTemp("", "matrix-payload-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "payload")
		if err := os.WriteFile(file, []byte(m.Payload), 0o600); err != nil {
			return err
		}
		return command("", "paho_c_pub", append(argv, "-f", file)...)
	}
	return c, ack{}, nil
}

// pahoCLines publishes a line each on one connection. The program takes the end
// of its input for a message, again and again: its input stays open, and when
// the broker has answered all it is killed.
func pahoCLines(argv []string, same []message) error {
	cmd := exec.Command("stdbuf", append([]string{"-oL", "paho_c_pub"}, argv...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	p, err := testkit.Launch(cmd)
	if err != nil {
		return err
	}
	defer in.Close()
	defer p.Kill()
	answer := [...]string{" -> PUBLISH ", " <- PUBACK ", " <- PUBCOMP "}[same[0].QoS]
	answered := func(n int) error {
		err := testkit.Poll("acknowledgements", patience, func() bool {
			return strings.Count(p.Out.String(), answer) >= n || p.Ended() != nil
		})
		return errors.Join(err, p.Ended())
	}
	const inFlight = 10 // with more it gives up
	for i, m := range same {
		if err := answered(i + 1 - inFlight); err != nil {
			return err
		}
		if _, err := in.Write([]byte(m.Payload + "\n")); err != nil {
			return err
		}
	}
	return answered(len(same))
}

// pahoCMessages reads the trace, which has the first twenty bytes of a payload;
// longer ones stand on a line of their own. The topic is that of the only
// subscription.
func pahoCMessages(out, filter string) (all []message) {
	const mark = " <- PUBLISH msgid: "
	for line := range strings.Lines(out) {
		_, rest, ok := strings.Cut(line, mark)
		if !ok || !strings.HasSuffix(line, "\n") {
			continue
		}
		var id, qos, retained, size int
		head, payload, _ := strings.Cut(rest, "): ")
		if n, _ := fmt.Sscanf(head, "%d qos: %d retained: %d payload len(%d", &id, &qos, &retained, &size); n != 4 {
			continue
		}
		payload = strings.TrimSuffix(payload, "\n")
		if size > 20 {
			i := strings.Index(out, "\n"+payload)
			if i < 0 || len(out) < i+1+size {
				continue // still to be printed
			}
			payload = out[i+1 : i+1+size]
		}
		all = append(all, message{Topic: filter, Payload: payload, QoS: byte(qos), Retain: retained == 1})
	}
	return all
}
