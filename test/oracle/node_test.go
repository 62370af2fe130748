//go:build e2e

package oracle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// release is the version of mqtt-packet that the tables of this package
// describe.
const release = "9.0.2"

// modules is a folder for NODE_PATH that has mqtt-packet: below
// MQTT_ORACLE_NODE, else where .ci/run puts it.
func modules(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("MQTT_ORACLE_NODE")
	if dir == "" {
		cache := os.Getenv("MQTT_GATEWAY_CI_CACHE")
		if cache == "" {
			user, err := os.UserCacheDir()
			if err != nil {
				t.Fatalf("MQTT_ORACLE_NODE is not set, and there is no cache folder: %v", err)
			}
			cache = filepath.Join(user, "mqtt-gateway-ci")
		}
		dir = filepath.Join(cache, "mqtt-packet-"+release)
	}
	install := fmt.Sprintf("npm install --prefix %s mqtt-packet@%s", dir, release)
	path := filepath.Join(dir, "node_modules")
	text, err := os.ReadFile(filepath.Join(path, "mqtt-packet", "package.json"))
	if err != nil {
		t.Fatalf("mqtt-packet is not installed: %s; or set MQTT_ORACLE_NODE to a folder where it is", install)
	}
	var about struct{ Version string }
	if err := json.Unmarshal(text, &about); err != nil || about.Version != release {
		t.Fatalf("mqtt-packet in %s is %q: %s (%v)", path, about.Version, install, err)
	}
	return path
}

// node runs the script and decodes its answers, one a line.
func node[answer any](t *testing.T, input []byte, args ...string) []answer {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: apt-get install nodejs")
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"oracle.js"}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules(t))
	cmd.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node oracle.js %v: %v\n%s", args, err, complaints.String())
	}
	var list []answer
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	for {
		var a answer
		if err := d.Decode(&a); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("answer %d of node oracle.js %v: %v", len(list), args, err)
		}
		list = append(list, a)
	}
}

// request is a packet to read.
type request struct {
	Version byte   `json:"version"`
	Bytes   string `json:"bytes"` // hexadecimal
}

// reading is what mqtt-packet made of a packet.
type reading struct {
	Error  string // it was refused
	Facts  facts
	Again  string // written back, hexadecimal
	Cannot string // why it was not
}

// ask has packets read.
func ask(t *testing.T, packets []request) []reading {
	t.Helper()
	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	for _, p := range packets {
		if err := e.Encode(p); err != nil {
			t.Fatal(err)
		}
	}
	answers := node[reading](t, lines.Bytes(), "read")
	if len(answers) != len(packets) {
		t.Fatalf("%d answers to %d packets", len(answers), len(packets))
	}
	return answers
}
