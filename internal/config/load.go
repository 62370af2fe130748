package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFileSize bounds a configuration or rules file: 100,000 rules of some
// hundred bytes.
const maxFileSize = 64 << 20

// Load reads, binds and checks the configuration file at path. A relative path
// in the file starts at the file's own folder. The error is an [Errors] with
// every mistake at its place; warnings come with it or with the configuration.
func Load(path string) (*Config, []Warning, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, Errors{{Place: path, Text: err.Error(), Err: err}}
	}
	return Parse(path, filepath.Dir(path), data, os.LookupEnv)
}

// Parse is Load for bytes; name is used in the places of errors and gives the
// format by its extension, dir is where relative paths start.
func Parse(name, dir string, data []byte, env func(string) (string, bool)) (*Config, []Warning, error) {
	d := &document{report: &report{}, src: &source{name: name, data: data}, dir: dir, env: env}
	if !d.parse() {
		_, err := d.done()
		return nil, nil, err
	}
	cfg, warnings, err := d.bind()
	if err != nil {
		return nil, warnings, err
	}
	cfg.origin = &origin{name: name, dir: dir, data: data, env: env}
	return cfg, warnings, nil
}

// bind makes the configuration of d's tree.
func (d *document) bind() (*Config, []Warning, error) {
	cfg := Default()
	d.fill(reflect.ValueOf(cfg).Elem())
	d.check(cfg)
	for _, g := range unenforcedGateway(&cfg.Gateway) { // also before an error asks for a certificate
		d.warnAt(g.at, true, g.text)
	}
	if len(d.errs) == 0 {
		complete(cfg)
		d.unenforced(cfg)
	}
	warnings, err := d.done()
	if err != nil {
		return nil, warnings, err
	}
	return cfg, warnings, nil
}

// parse makes the tree of d's bytes, or adds why that is not possible.
func (d *document) parse() bool {
	switch strings.ToLower(filepath.Ext(d.src.name)) {
	case ".yaml", ".yml":
		d.fail(-1, nil, "YAML is not read by this version", "write it as JSON, with // comments and trailing commas if you like")
		return false
	}
	if len(d.src.data) > maxFileSize {
		d.fail(-1, nil, fmt.Sprintf("the file is larger than %d MiB", maxFileSize>>20), "")
		return false
	}
	root, wrong := parseJSON(d.src.data)
	if wrong != nil {
		d.fail(wrong.offset, nil, wrong.text, wrong.hint)
		return false
	}
	d.root = root
	return true
}

// Decode binds a JSON file that is no configuration, of name and data, into
// the struct that v points to, by its "key" tags: comments, places and hints are
// those of a configuration. Types of the caller's read themselves from a text by
// [encoding.TextUnmarshaler]; an error of theirs is told as it is. Nothing is
// filled in from the environment, and no value stands in an error, because it
// may be a secret. The error is an [Errors]; v may then be half filled.
func Decode(name string, data []byte, v any) error {
	d := &document{report: &report{}, src: &source{name: name, data: data}, hides: true}
	if d.parse() {
		d.fill(reflect.ValueOf(v).Elem())
	}
	_, err := d.done()
	return err
}

// ReadFile reads a regular file, as a file that a configuration names must be:
// opening a pipe would wait for its writer, for ever. Of a file that is too large
// for [Decode] it returns just as much as shows it. The error is an [Errors].
func ReadFile(path string) ([]byte, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, Errors{{Place: path, Text: err.Error(), Err: err}}
	}
	return data, nil
}

func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plainError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return readFile(path)
}

// readFile is os.ReadFile up to just beyond maxFileSize.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, plainError(err)
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, plainError(err)
	}
	return data, nil
}

// plainError takes the operation and the path off an error that is shown with
// the path before it.
func plainError(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
