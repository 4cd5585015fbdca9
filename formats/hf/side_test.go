package hf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSideFiles(t *testing.T) {
	c := openTree(t, single.with(tree{
		"tokenizer.json": `{"auto_map":1,"auto_map":2}`, "tokenizer_config.json": `{"chat_template":"{{ 1/0 }}"}`, "generation_config.json": "{}",
		"tokenizer.model": "\x00\xff", "chat_template.jinja": "{% raw %}", "additional_chat_templates/tool.jinja": "x", "merges.txt": "a b",
		"LICENSE": "l", "LICENSE.md": "l", "License-MIT.txt": "l", "NOTICE": "n", "USE_POLICY.md": "u", "README.md": "r", "vocab.json": "{}",
		"pytorch_model.bin": "x", "model.pt": "x", "model.gguf": "x", ".gitattributes": "x", ".git/config": "x", "notes.txt": "x", "LICENSED.bin": "x",
		"other.safetensors": "x", "additional_chat_templates/evil.sh": "x", "original/params.json": "x",
	}))
	var got []string
	for _, f := range c.Files() {
		got = append(got, fmt.Sprintf("%s=%s/%d", f.Name, f.Kind, f.Size))
	}
	const want = "LICENSE=license/1 LICENSE.md=license/1 License-MIT.txt=license/1 NOTICE=license/1 README.md=card/1 USE_POLICY.md=license/1 " +
		"additional_chat_templates/tool.jinja=template/1 chat_template.jinja=template/9 generation_config.json=config/2 merges.txt=tokenizer/3 " +
		"tokenizer.json=tokenizer/27 tokenizer.model=tokenizer/2 tokenizer_config.json=tokenizer/29 vocab.json=tokenizer/2"
	if strings.Join(got, " ") != want {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
	const skipped = ".gitattributes LICENSED.bin additional_chat_templates/evil.sh model.gguf model.pt notes.txt pytorch_model.bin"
	if s := strings.Join(c.Skipped(), " "); s != skipped {
		t.Errorf("skipped %s", s)
	}
	if len(c.RemoteCode()) != 0 {
		t.Errorf("remote code %v", c.RemoteCode())
	}
}

func TestCopyFile(t *testing.T) {
	files := single.with(tree{"chat_template.jinja": "{{ x }}\r\n\x00", "additional_chat_templates/t.jinja": "y", "notes.txt": "x"})
	c := openTree(t, files)
	dir := t.TempDir()
	for _, name := range []string{"chat_template.jinja", "additional_chat_templates/t.jinja", "config.json"} {
		digest, err := c.CopyFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(files[name]))
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != files[name] || digest != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %q, %s, %v", name, got, digest, err)
		}
		if got, err := c.ReadFile(name, 100); err != nil || string(got) != files[name] {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := c.ReadFile(name, 0); err == nil {
			t.Error("limit ignored")
		}
	}
	for _, name := range []string{"notes.txt", "../x", "/etc/passwd", "model.safetensors", ""} {
		if _, err := c.CopyFile(dir, name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRemoteCode(t *testing.T) {
	for _, x := range []struct {
		files tree
		want  string
	}{
		{tree{"config.json": `{"auto_map":{"AutoModel":"modeling_x.X"}}`}, "config.json: auto_map"},
		{tree{"config.json": `{"text_config":{"auto_map":{}}}`}, "config.json: auto_map"},
		{tree{"config.json": `{"x":[{"custom_pipelines":{}}]}`}, "config.json: custom_pipelines"},
		{tree{"config.json": `{"\u0061uto_map":{}}`}, "config.json: auto_map"},
		{tree{"tokenizer_config.json": `{"auto_map":{}}`}, "tokenizer_config.json: auto_map"},
		{tree{"preprocessor_config.json": `{"auto_map":{}}`}, "preprocessor_config.json: auto_map"},
		{tree{"modeling_x.py": "import os"}, "modeling_x.py"},
		{tree{"MODELING.PY": "import os"}, "MODELING.PY"},
		{tree{"custom_generate/generate.py": "import os"}, "custom_generate/generate.py"},
	} {
		files := single.with(x.files)
		_, err := Open(files.write(t, t.TempDir()))
		if !errors.Is(err, ErrRemoteCode) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v", x.files, err)
		}
		c := openTree(t, files, AllowRemoteCode())
		if strings.Join(c.RemoteCode(), ",") != x.want {
			t.Errorf("%v: remote code %v", x.files, c.RemoteCode())
		}
		for name := range x.files {
			listed := false
			for _, f := range c.Files() {
				listed = listed || f.Name == name && f.Kind == KindCode
			}
			if listed != isCode(name) {
				t.Errorf("%s listed as code: %v", name, listed)
			}
		}
	}
	if c := openTree(t, single.with(tree{"config.json": `{"auto_map":null,"x":"auto_map"}`})); len(c.RemoteCode()) != 0 {
		t.Errorf("null auto_map counts: %v", c.RemoteCode())
	}
	if _, err := Open(single.with(tree{"tokenizer_config.json": `{"auto_map":`}).write(t, t.TempDir())); err == nil || !strings.Contains(err.Error(), "tokenizer_config.json") {
		t.Errorf("damaged tokenizer_config.json: %v", err)
	}
}
