package layers

import (
	"strings"
	"testing"
)

// thirdParty says where each foreign module may be imported, the directory and all below it.
var thirdParty = map[string][]string{
	"github.com/spf13/cobra":            {"cmd"},
	"github.com/spf13/pflag":            {"cmd"},
	"github.com/schollz/progressbar":    {"internal/ui"},
	"golang.org/x/term":                 {"internal/ui", "cmd"},
	"github.com/x448/float16":           {"formats"},
	"github.com/nlpodyssey/safetensors": {"formats"},
	"github.com/goccy/go-yaml":          {"internal/pipeline", "cmd"},
	"github.com/klauspost/compress":     {"calib"},
	"golang.org/x/text":                 {"calib"},
	"golang.org/x/sys":                  {"formats", "internal/num", "internal/device", "internal/pipeline", "cmd"},
	"github.com/rogpeppe/go-internal":   {"cmd"},
	"gorgonia.org/cu":                   {"internal/device/cuda"},
}

// pure packages compute: they read no file and no environment.
var pure = []string{"heads", "prune", "quantize", "internal/num"}

func TestThirdPartyImports(t *testing.T) {
	for _, f := range sources(t) {
		for _, imp := range f.imports {
			if msg := badModule(f.pkg, imp); msg != "" {
				t.Errorf("%s: %s", f.path, msg)
			}
		}
	}
}

func badModule(pkg, imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") {
		return "" // standard library or this module
	}
	for name, dirs := range thirdParty {
		if imp != name && !strings.HasPrefix(imp, name+"/") {
			continue
		}
		if under(pkg, dirs...) && !under(pkg, "formats/manifest", "formats/planfile") {
			return ""
		}
		return pkg + " imports " + imp + ", which belongs to " + strings.Join(dirs, ", ")
	}
	return pkg + " imports " + imp + ", which is not an agreed dependency"
}

func TestBadModule(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		bad      bool
	}{
		{"cmd/compress", "github.com/spf13/cobra", false},
		{"internal/pipeline", "github.com/spf13/cobra", true},
		{"formats", "github.com/x448/float16", false},
		{"formats/manifest", "github.com/x448/float16", true},
		{"calib", "github.com/klauspost/compress/zstd", false},
		{"calib", "gonum.org/v1/gonum/mat", true},
		{"calib", "encoding/json", false},
		{"internal/ui", "github.com/schollz/progressbar/v3", false},
		{"internal/device/cpu", "gorgonia.org/cu", true},
	} {
		if msg := badModule(c.pkg, c.imp); (msg != "") != c.bad {
			t.Errorf("%+v: %q", c, msg)
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || !under(f.pkg, pure...) || under(f.pkg, "internal/num/gen") {
			continue
		}
		for _, imp := range f.imports {
			switch imp {
			case "os", "os/exec", "io/fs", "path/filepath", "net", "net/http", "flag", "log", "log/slog", "time":
				t.Errorf("%s: %s imports %s", f.path, f.pkg, imp)
			}
		}
	}
}
