package layers

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// ranks orders the packages: imports go to a strictly lower rank. The table of docs/ARCHITECTURE.md must say the same. A name
// that ends in /... stands for everything below it too.
var ranks = map[string]int{
	"internal/num":     0,
	"internal/num/gen": 0,
	"formats/manifest": 0,
	"formats/planfile": 0,

	"formats":     1,
	"internal/ui": 1,

	"formats/safetensors": 2,
	"formats/packed":      2,
	"formats/gptq":        2,
	"formats/awq":         2,
	"formats/ggml":        2,
	"internal/device":     2,

	"formats/hf":                 3,
	"formats/gguf":               3,
	"internal/device/cpu":        3,
	"internal/device/cuda":       3,
	"internal/device/cuda/emu":   3,
	"internal/device/devicetest": 3,

	"formats/imatrix":        4,
	"internal/arch":          4,
	"internal/device/choose": 4,

	"internal/nn":        5,
	"internal/testmodel": 5,
	"internal/llamacpp":  5,

	"calib":               6,
	"internal/checkpoint": 6,

	"distill": 7,
	"prune":   7,

	"heads":            8,
	"heads/kvmerge":    8,
	"prune/importance": 8,
	"prune/sparse":     8,
	"prune/vib":        8,
	"quantize":         8,

	"internal/pipeline": 9,

	"internal/convert": 10,

	"cmd/...":         11,
	"examples/...":    11,
	"internal/layers": 11,
}

// testHelpers may be imported by the tests of any package.
var testHelpers = map[string]bool{
	"internal/testmodel":         true,
	"internal/device/cpu":        true,
	"internal/device/devicetest": true,
	"internal/device/cuda/emu":   true,
}

// rankOf returns the rank of a package, by its path in the module.
func rankOf(pkg string) (int, bool) {
	if r, ok := ranks[pkg]; ok {
		return r, true
	}
	for p := pkg; p != ""; {
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
		if r, ok := ranks[p+"/..."]; ok {
			return r, true
		}
	}
	return 0, false
}

func TestEveryPackageHasARank(t *testing.T) {
	for _, f := range sources(t) {
		if _, ok := rankOf(f.pkg); !ok {
			t.Errorf("%s: package %q has no rank", f.path, f.pkg)
		}
	}
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range sources(t) {
		for _, imp := range f.imports {
			if msg := badImport(f.pkg, imp, f.test); msg != "" {
				t.Errorf("%s: %s", f.path, msg)
			}
		}
	}
}

// badImport says what is wrong with importing a package of this module, "" where nothing is.
func badImport(from, imported string, test bool) string {
	to, ok := strings.CutPrefix(imported, module+"/")
	if !ok {
		return ""
	}
	if test && (testHelpers[to] || to == from) {
		return ""
	}
	fromRank, _ := rankOf(from)
	toRank, ok := rankOf(to)
	if !ok {
		return fmt.Sprintf("imports %s, which has no rank", to)
	}
	if toRank >= fromRank {
		return fmt.Sprintf("%s (rank %d) imports %s (rank %d)", from, fromRank, to, toRank)
	}
	return ""
}

// The test must be able to fail.
func TestBadImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test     bool
		bad      bool
	}{
		{"formats", "modelpress/internal/num", false, false},
		{"formats", "modelpress/formats", false, true},
		{"heads", "modelpress/quantize", false, true},
		{"heads", "modelpress/quantize", true, true},
		{"internal/num", "modelpress/calib", false, true},
		{"formats/hf", "modelpress/internal/testmodel", false, true},
		{"formats/hf", "modelpress/internal/testmodel", true, false},
		{"cmd/compress", "modelpress/internal/pipeline", false, false},
		{"cmd/compress", "modelpress/cmd/other", false, true},
		{"calib", "modelpress/nowhere", false, true},
		{"calib", "fmt", false, false},
	} {
		if msg := badImport(c.from, c.to, c.test); (msg != "") != c.bad {
			t.Errorf("%+v: %q", c, msg)
		}
	}
}

// The table in the documentation has rows "| 3 | `formats/hf`, `internal/device/cpu` | … |".
func TestDocumentedRanks(t *testing.T) {
	data, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]int{}
	row := regexp.MustCompile("(?m)^\\| ([0-9]+) \\| ((?:`[^`|]+`(?:, )?)+) \\|")
	for _, m := range row.FindAllStringSubmatch(string(data), -1) {
		r, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.SplitSeq(m[2], ", ") {
			documented[strings.Trim(name, "`")] = r
		}
	}
	for p, r := range ranks {
		if d, ok := documented[p]; !ok || d != r {
			t.Errorf("%s has rank %d, documented is %d (%t)", p, r, d, ok)
		}
	}
	for p := range documented {
		if _, ok := ranks[p]; !ok {
			t.Errorf("%s is documented and has no rank", p)
		}
	}
}
