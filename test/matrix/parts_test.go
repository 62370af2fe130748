//go:build matrix

package matrix

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The folders that test/matrix/install fills. Fixed by findParts.
var parts struct {
	python string // interpreter with Paho, gmqtt and iotcore
	node   string // NODE_PATH with MQTT.js, aedes and ws
	java   string // class path with HiveMQ CE and the HiveMQ client
}

// findParts finds everything that is not a package of the system, and asks for
// what is.
func findParts() error {
	for _, name := range []string{"mosquitto", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "paho_c_pub", "paho_c_sub", "node", "java", "stdbuf"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: run test/matrix/install", name)
		}
	}
	for _, p := range []struct {
		kind, list, probe string
		to                *string
	}{
		{"python", "requirements.txt", "bin/python", &parts.python},
		{"javascript", "package.json", "node_modules", &parts.node},
		{"java", "pom.xml", "", &parts.java},
	} {
		text, err := os.ReadFile(filepath.Join("parts", p.list))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		folder := filepath.Join(cache(), fmt.Sprintf("matrix-%s-%x", p.kind, sum[:6]))
		*p.to = filepath.Join(folder, p.probe)
		if _, err := os.Stat(*p.to); err != nil {
			return fmt.Errorf("what parts/%s lists is not installed: run test/matrix/install", p.list)
		}
	}
	parts.java = filepath.Join(parts.java, "*")
	return nil
}

// cache is where test/matrix/install puts things.
func cache() string {
	if dir := os.Getenv("MQTT_GATEWAY_CI_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "no-cache-folder"
	}
	return filepath.Join(dir, "mqtt-gateway-ci")
}
