//go:build release

package scripts

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// release runs scripts/release of a checkout for this machine.
func release(t *testing.T, checkout string) (archive string) {
	t.Helper()
	platform := map[string]string{"amd64": "linux-x86_64", "arm64": "linux-aarch64"}[runtime.GOARCH]
	out := t.TempDir()
	cmd := exec.Command(filepath.Join(checkout, "scripts", "release"), "1.2.3", out)
	cmd.Env = append(os.Environ(), "PLATFORMS="+platform, "SOURCE_DATE_EPOCH=1700000000")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/release: %v\n%s", err, text)
	}
	return filepath.Join(out, "releases", "download", "v1.2.3", "zentinel-mqtt-gateway-agent-1.2.3-"+platform+".tar.gz")
}

// TestRelease: the archive holds the program, its checksum lies beside it, and
// the same source elsewhere gives the same bytes.
func TestRelease(t *testing.T) {
	here, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for _, part := range []string{"cmd", "internal", "scripts"} {
		if err := os.CopyFS(filepath.Join(elsewhere, part), os.DirFS(filepath.Join(here, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"go.mod", "go.sum", "LICENSE"} {
		text, err := os.ReadFile(filepath.Join(here, part))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(elsewhere, part), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var sums []string
	for _, checkout := range []string{here, elsewhere} {
		archive := release(t, checkout)
		text, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(text))
		sums = append(sums, sum)
		line, err := os.ReadFile(archive + ".sha256")
		if err != nil || strings.Fields(string(line))[0] != sum {
			t.Errorf("checksum file %q, %v; want %s first", line, err, sum)
		}
		dir := t.TempDir()
		if text, err := exec.Command("tar", "-xzf", archive, "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("tar: %v\n%s", err, text)
		}
		for _, name := range []string{"zentinel-mqtt-gateway-agent", "sentinel-mqtt-agent"} {
			got, err := exec.Command(filepath.Join(dir, name), "--version").Output()
			if err != nil || string(got) != "sentinel-mqtt-agent 1.2.3\n" {
				t.Errorf("%s --version: %q, %v", name, got, err)
			}
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("built here %s, elsewhere %s", sums[0], sums[1])
	}
}

func TestReleaseWantsAVersion(t *testing.T) {
	for _, version := range []string{"", "v1.2.3", "1.2", "../1.2.3"} {
		out := t.TempDir()
		if text, err := exec.Command(filepath.Join("..", "..", "scripts", "release"), version, out).CombinedOutput(); err == nil {
			t.Errorf("%q: %s", version, text)
		}
	}
}
