package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Every exported name of a package that others import has a comment, and so has the package.
func TestExportedNamesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || under(s.pkg, "cmd", "examples", "internal/num/gen") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(root, s.path), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		seen[s.pkg] = true
		documented[s.pkg] = documented[s.pkg] || f.Doc != nil
		for _, name := range undocumented(f) {
			t.Errorf("%s: %s has no comment", s.path, name)
		}
	}
	for pkg := range seen {
		if !documented[pkg] {
			t.Errorf("package %s has no comment", pkg)
		}
	}
}

// undocumented returns the exported declarations without a comment of their own or of their group.
func undocumented(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			// Methods of a type that nobody else can name document themselves by the interface that they implement.
			if d.Name.IsExported() && d.Doc == nil && d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				names = append(names, undocumentedSpec(d, spec)...)
			}
		}
	}
	return names
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []string {
	var names []string
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
			names = append(names, s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				names = append(names, n.Name)
			}
		}
	}
	return names
}
