// Package scripts runs the command line as people do: testscripts against the
// real main.
package scripts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/cli"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		cli.Name: func() { os.Exit(cli.Run(context.Background(), os.Args[1:], cli.Stdio())) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"localise": localise,
			"verifies": verifies,
			"serving":  serving,
			"denies":   denies,
		},
	})
}

// exits CODE COMMAND… runs the program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) {
			ts.Fatalf("%v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// localise FILE… has the files that the product's description puts in
// /etc/sentinel looked for below the script's own folder.
func localise(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: localise FILE…")
	}
	for _, name := range args {
		path := ts.MkAbs(name)
		here, err := json.Marshal(ts.MkAbs("etc/sentinel") + "/")
		ts.Check(err)
		text := strings.ReplaceAll(ts.ReadFile(name), `"/etc/sentinel/`, strings.TrimSuffix(string(here), `"`))
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
	}
}

// verifies FILE PASSWORD checks that FILE is one bcrypt hash of PASSWORD.
func verifies(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: verifies FILE PASSWORD")
	}
	hash := bytes.TrimSuffix([]byte(ts.ReadFile(args[0])), []byte("\n"))
	err := bcrypt.CompareHashAndPassword(hash, []byte(args[1]))
	if neg == (err == nil) {
		ts.Fatalf("%q for %q: %v", hash, args[1], err)
	}
}

// serving PATH waits until something listens on a Unix socket.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serving PATH")
	}
	path := ts.MkAbs(args[0])
	if !testkit.Within(testkit.Patience, func() bool {
		conn, err := net.Dial("unix", path)
		return err == nil && conn.Close() == nil
	}) {
		ts.Fatalf("nothing serves")
	}
}
