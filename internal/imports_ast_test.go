package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// forbidden lists go statements and uses of the clock in a file.
func forbidden(t *testing.T, path string) []string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, fmt.Sprintf("line %d: go statement", set.Position(n.Pos()).Line))
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" {
				switch n.Sel.Name {
				case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick":
					found = append(found, fmt.Sprintf("line %d: time.%s", set.Position(n.Pos()).Line, n.Sel.Name))
				}
			}
		}
		return true
	})
	return found
}
