package layers

import (
	"go/ast"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// effects are calls that only programs and their user interface may make: output that no writer was passed for, the end
// of the process, the clock, and random numbers without a seed.
var effects = map[string]func(name string) bool{
	"fmt":  func(n string) bool { return n == "Print" || n == "Printf" || n == "Println" },
	"log":  func(string) bool { return true },
	"os":   func(n string) bool { return n == "Exit" || n == "Stdout" || n == "Stderr" || n == "Stdin" },
	"time": func(n string) bool { return n == "Now" || n == "Since" || n == "Until" },
	"math/rand": func(string) bool {
		return true
	},
	"math/rand/v2": func(n string) bool {
		return !strings.HasPrefix(n, "New") && n != "Rand" && n != "Source" && n != "PCG" && n != "ChaCha8"
	},
}

func TestEffectsStayInPrograms(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || under(s.pkg, "cmd", "examples", "internal/ui", "internal/num/gen") {
			continue
		}
		f, fset := syntax(t, s)
		for _, e := range findEffects(f) {
			t.Errorf("%s:%d: %s outside of programs", s.path, fset.Position(e.pos).Line, e.name)
		}
	}
}

type effect struct {
	pos  token.Pos
	name string
}

// findEffects returns the forbidden selectors of a file and the uses of print and println.
func findEffects(f *ast.File) []effect {
	local := map[string]func(string) bool{}
	for _, imp := range f.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil || effects[path] == nil {
			continue
		}
		name := strings.TrimSuffix(path, "/v2")
		name = name[strings.LastIndexByte(name, '/')+1:]
		if imp.Name != nil {
			name = imp.Name.Name
		}
		local[name] = effects[path]
	}
	var found []effect
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && local[x.Name] != nil && local[x.Name](n.Sel.Name) {
				found = append(found, effect{n.Pos(), x.Name + "." + n.Sel.Name})
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "println" || id.Name == "print") {
				found = append(found, effect{n.Pos(), id.Name})
			}
		}
		return true
	})
	return found
}
