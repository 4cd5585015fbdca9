package layers

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tensorNames are parts of names that model families give their tensors. internal/arch owns them.
var tensorNames = []string{
	"self_attn", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "mlp.", "lm_head",
	"embed_tokens", "input_layernorm", "post_attention_layernorm", "c_attn", "c_proj", "c_fc", "model.layers", "model.norm",
}

// keys are names of tensors that are also keys of a format which a package owns.
var keys = map[string]string{"formats/gptq": "lm_head", "formats/awq": "lm_head"}

func TestTensorNamesStayInArch(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || under(s.pkg, "internal/arch", "internal/testmodel", "internal/layers") {
			continue
		}
		f, fset := syntax(t, s)
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tensorNames {
				if strings.Contains(text, name) && keys[s.pkg] != name {
					t.Errorf("%s:%d: string %q holds the tensor name %q", s.path, fset.Position(lit.Pos()).Line, text, name)
				}
			}
			return true
		})
	}
}

// No committed text may hold a path of the machine that it was written on.
func TestNoMachinePaths(t *testing.T) {
	homes := []string{"home", "root", "Users", "work", "mnt", "tmp/team"}
	err := walk(func(path string) error {
		switch filepath.Ext(path) {
		case ".go", ".md", ".json", ".yaml", ".yml", ".sh", ".txt", ".txtar", ".mod", ".s":
		default:
			return nil
		}
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil || info.Size() > 4<<20 {
			return err
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		for i, l := range strings.Split(string(data), "\n") {
			for _, h := range homes {
				if holdsPath(l, "/"+h+"/") {
					t.Errorf("%s:%d: a path below %s", path, i+1, "/"+h)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// holdsPath reports whether dir starts an absolute path in the line: nothing that continues a word or an address is before it.
func holdsPath(line, dir string) bool {
	for rest := line; ; {
		i := strings.Index(rest, dir)
		if i < 0 {
			return false
		}
		if i == 0 || strings.ContainsRune(" \t\"'`(=:,[", rune(rest[i-1])) {
			return true
		}
		rest = rest[i+1:]
	}
}
