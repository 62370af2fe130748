package config

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// entry is one file of a txtar archive.
type entry struct {
	name string
	data string
}

// readArchive reads a txtar file: a comment, then for each file a line
// "-- name --" and its text.
func readArchive(t *testing.T, name string) (comment string, files []entry) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(rest, " --\n") {
			files = append(files, entry{name: strings.TrimSuffix(rest, " --\n")})
		} else if len(files) == 0 {
			comment += line
		} else {
			files[len(files)-1].data += line
		}
	}
	return comment, files
}

func formatArchive(comment string, files []entry) []byte {
	b := bytes.NewBufferString(comment)
	for _, f := range files {
		fmt.Fprintf(b, "-- %s --\n%s", f.name, f.data)
	}
	return b.Bytes()
}
