package config

import "errors"

// Load reads, binds and checks the configuration file at path. See the
// package comment.
func Load(path string) (*Config, []Warning, error) { return nil, nil, errors.New("under construction") }

// Parse is Load for bytes; name is used in the places of errors and gives the
// format by its extension, dir is where relative paths start.
func Parse(name, dir string, data []byte, env func(string) (string, bool)) (*Config, []Warning, error) {
	return nil, nil, errors.New("under construction")
}

// Warning is something legal that will not do what it seems to.
type Warning struct {
	Place string // file:line:column
	Path  string // acl.rules[2].topics[0]
	Text  string
	// Blocks is set when the section is enabled but not enforced by this
	// version: validate tells, a run is refused.
	Blocks bool
}
