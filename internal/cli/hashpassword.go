package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
)

// hashPasswordCmd hashes a password for a users file.
type hashPasswordCmd struct {
	Cost int `default:"12" help:"bcrypt cost, 4 to 16. Each step doubles the time; behind the proxy a check must fit agent.decision-timeout-ms or the client's second try."`
}

// Help is shown by --help.
func (hashPasswordCmd) Help() string {
	return "Asks twice without echo on a terminal, else reads one line from standard input. Never takes a password as an argument: other users could read it.\n\n" +
		"Example: " + Name + " hash-password        (then paste the hash as password_hash)"
}

// Run prints the hash alone on a line.
func (c *hashPasswordCmd) Run(stdio *IO) error {
	if c.Cost < 4 || c.Cost > 16 {
		return mistyped(fmt.Errorf("--cost %d: 4 to 16", c.Cost))
	}
	pw, err := readPassword(stdio)
	if err != nil {
		return err
	}
	hash, err := auth.HashPassword(pw, c.Cost)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdio.Out, hash)
	return err
}

func readPassword(stdio *IO) ([]byte, error) {
	f, ok := stdio.In.(*os.File)
	if !ok || !isTerminal(f) {
		line, err := bufio.NewReader(io.LimitReader(stdio.In, 4096)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(stdio.Err, prompt)
		pw, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(stdio.Err)
		return pw, err
	}
	pw, err := ask("Password: ")
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	again, err := ask("Again: ")
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	if !bytes.Equal(pw, again) {
		return nil, errors.New("the two passwords differ")
	}
	return pw, nil
}
