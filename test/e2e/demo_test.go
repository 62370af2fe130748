//go:build e2e

package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestDemo: the demo decides within three seconds, shows allowed and denied
// decisions of both doors, and the lines that it prints do what they say.
func TestDemo(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Fatal(err)
	}
	var demo *testkit.Process
	decisions := func() (lines []string) {
		_, after, found := strings.Cut(demo.Out.String(), "Every decision, live")
		if !found {
			return nil
		}
		all := strings.Split(after, "\n")
		for _, line := range all[1 : len(all)-1] { // the last is still being written
			if strings.TrimSpace(line) != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}
	within(t, 3*time.Second, "the first decision", func() time.Duration {
		if demo != nil {
			demo.Stop()
		}
		started := time.Now()
		demo = run(t, program, "demo", "--for", "10m")
		testkit.Eventually(t, "the first decision", func() bool { return len(decisions()) > 0 })
		return time.Since(started)
	})
	for _, door := range []string{"gateway", "agent"} {
		for _, what := range []string{"allow", "(drop|close|denied|refused)"} {
			re := regexp.MustCompile(`(?i)\b` + door + `\b.*\b` + what + `|(?i)\b` + what + `\b.*\b` + door + `\b`)
			err := testkit.Poll("", patience, func() bool {
				for _, line := range decisions() {
					if re.MatchString(line) {
						return true
					}
				}
				return false
			})
			if err != nil {
				t.Errorf("no decision %q of the %s door in\n%s", what, door, strings.Join(decisions(), "\n"))
			}
		}
	}
	t.Run("lines", func(t *testing.T) { demoLines(t, demo.Out.String()) })
	demo.Stop()
	if demo.Code != 0 {
		t.Errorf("exit code %d, want 0", demo.Code)
	}
}

// demoLines runs the mosquitto_pub and mosquitto_sub lines of the demo's output
// as a reader would: the subscription first, in its own terminal.
func demoLines(t *testing.T, out string) {
	var subs, pubs []string
	for line := range strings.Lines(out) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "mosquitto_sub "):
			subs = append(subs, line)
		case strings.HasPrefix(line, "mosquitto_pub "):
			pubs = append(pubs, line)
		}
	}
	if len(subs) != 1 || len(pubs) < 3 {
		t.Fatalf("%d mosquitto_sub and %d mosquitto_pub lines in\n%s", len(subs), len(pubs), out)
	}
	sub := run(t, "sh", "-c", "exec stdbuf -oL "+subs[0])
	var sent string
	for _, line := range pubs {
		command, comment, _ := strings.Cut(line, "#")
		topic := regexp.MustCompile(`-t (\S+) -m (\S+)`).FindStringSubmatch(command)
		if topic == nil {
			t.Fatalf("no topic in %q", line)
		}
		message := topic[1] + " " + topic[2]
		comment = strings.TrimSpace(comment)
		publish := func() (string, error) {
			out, err := exec.Command("sh", "-c", command).CombinedOutput()
			return string(out), err
		}
		switch comment {
		case "":
			// Until the subscription stands, nothing comes of it.
			sent = message
			testkit.Eventually(t, line, func() bool {
				if out, err := publish(); err != nil {
					t.Fatalf("%s\n%v: %s", line, err, out)
				}
				return strings.Contains(sub.Out.String(), message)
			})
		case "denied":
			if out, err := publish(); err != nil {
				t.Errorf("%s\n%v: %s", line, err, out)
			}
		case "refused":
			if out, err := publish(); err == nil {
				t.Errorf("%s\nadmitted: %s", line, out)
			}
		default:
			t.Errorf("%s: what should it do?", line)
			continue
		}
		if comment != "" && message != sent && strings.Contains(sub.Out.String(), message+"\n") {
			t.Errorf("%s\nit came through: %s", line, sub.Out.String())
		}
	}
	if sent == "" {
		t.Error("no line that is allowed")
	}
}
