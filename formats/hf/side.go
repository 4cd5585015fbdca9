package hf

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"modelpress/formats"
)

// Kind says what a side file is for.
type Kind string

// The kinds of side files.
const (
	KindConfig    Kind = "config"    // generation and processor settings
	KindTokenizer Kind = "tokenizer" // vocabulary, merges, special tokens
	KindTemplate  Kind = "template"  // chat templates: programs for the consumer, never rendered here
	KindLicense   Kind = "license"   // licence and notices
	KindCard      Kind = "card"      // README.md: describes the weights as they were, so a writer may replace it
	KindCode      Kind = "code"      // *.py, only with AllowRemoteCode
)

// SideFile is a file that belongs to a checkpoint beside config.json, weights and index, and that serving software needs
// byte for byte.
type SideFile struct {
	Name string // slash-separated path in the directory
	Kind Kind
	Size int64
}

var sideKinds = map[string]Kind{
	"generation_config.json": KindConfig, "preprocessor_config.json": KindConfig, "processor_config.json": KindConfig,
	"video_preprocessor_config.json": KindConfig,
	"tokenizer.json":                 KindTokenizer, "tokenizer.model": KindTokenizer, "tokenizer.model.v3": KindTokenizer,
	"tokenizer_config.json": KindTokenizer, "special_tokens_map.json": KindTokenizer, "added_tokens.json": KindTokenizer,
	"vocab.json": KindTokenizer, "vocab.txt": KindTokenizer, "merges.txt": KindTokenizer, "tekken.json": KindTokenizer,
	"spiece.model": KindTokenizer, "sentencepiece.bpe.model": KindTokenizer,
	"chat_template.jinja": KindTemplate, "chat_template.json": KindTemplate,
	"README.md": KindCard,
}

// kindOf returns the kind of a file, "" for one that is not carried over.
func kindOf(name string) Kind {
	if k, ok := sideKinds[name]; ok {
		return k
	}
	switch dir, base := path.Split(name); {
	case dir == templateDir+"/" && path.Ext(base) == ".jinja":
		return KindTemplate
	case isCode(name):
		return KindCode
	case dir != "":
		return ""
	}
	for _, prefix := range []string{"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"} {
		if rest, ok := strings.CutPrefix(strings.ToUpper(name), prefix); ok && (rest == "" || strings.Contains("._-", rest[:1])) {
			return KindLicense
		}
	}
	return ""
}

func isCode(name string) bool { return strings.EqualFold(path.Ext(name), ".py") }

// Directories below a checkpoint that hold files for its consumers.
const (
	templateDir = "additional_chat_templates"
	generateDir = "custom_generate"
)

// openSide lists the side files, and refuses code unless it is allowed.
func (c *Checkpoint) openSide(allowCode bool) error {
	for _, sub := range []string{".", templateDir, generateDir} {
		entries, err := c.dir.list(sub)
		if errors.Is(err, fs.ErrNotExist) && sub != "." {
			continue
		}
		if err != nil {
			return formats.Errorf(c.name, "", "%w", underlying(err))
		}
		for _, e := range entries {
			if err := c.addSide(path.Join(sub, e.Name()), e, allowCode); err != nil {
				return err
			}
		}
	}
	if err := c.findRemoteCode(); err != nil {
		return err
	}
	if len(c.remote) > 0 && !allowCode {
		return formats.Errorf(c.name, "", "%w (%s): a program that loads the result could run it; allow remote code explicitly to keep it", ErrRemoteCode, strings.Join(c.remote, ", "))
	}
	return nil
}

func (c *Checkpoint) addSide(name string, e fs.DirEntry, allowCode bool) error {
	kind := kindOf(name)
	if kind == KindCode {
		c.remote = append(c.remote, name)
	}
	if kind == "" || e.IsDir() || kind == KindCode && !allowCode {
		if own := name == configName || name == indexName || shardName.MatchString(name); !own && !e.IsDir() {
			c.skipped = append(c.skipped, name)
		}
		return nil
	}
	f, info, err := c.dir.open(name)
	if err != nil {
		return err
	}
	c.side = append(c.side, SideFile{Name: name, Kind: kind, Size: info.Size()})
	c.seen[name] = info
	return f.Close()
}

// codeKeys are the keys by which a JSON file makes a loader import Python.
var codeKeys = []string{"auto_map", "custom_pipelines"}

// findRemoteCode looks for codeKeys at any depth of the JSON files in which loaders look for them.
func (c *Checkpoint) findRemoteCode() error {
	names := []string{configName}
	for _, f := range c.side {
		if f.Kind == KindConfig || f.Name == "tokenizer_config.json" {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		raw := c.config
		if name != configName {
			var err error
			if raw, _, err = c.dir.read(name, maxConfigBytes); err != nil {
				return err
			}
		}
		keys, err := findKeys(raw, codeKeys)
		if err != nil {
			return formats.Errorf(name, "", "%w", err)
		}
		for _, k := range keys {
			c.remote = append(c.remote, name+": "+k)
		}
	}
	return nil
}

// findKeys checks a JSON text and returns which of the keys have a value other than null, at any depth.
func findKeys(raw []byte, keys []string) ([]string, error) {
	s := formats.NewJSONScanner(raw, configDepth)
	var found []string
	var walk func() error
	walk = func() error {
		switch s.Kind() {
		case '{':
			return s.Object(func(key string) error {
				if slices.Contains(keys, key) && s.Kind() != 'n' && !slices.Contains(found, key) {
					found = append(found, key)
				}
				return walk()
			})
		case '[':
			return s.Array(func(int) error { return walk() })
		}
		return s.Skip()
	}
	if err := walk(); err != nil {
		return nil, err
	}
	return found, s.End()
}

// Files returns the side files to carry over, in the order of their names.
func (c *Checkpoint) Files() []SideFile {
	list := slices.Clone(c.side)
	slices.SortFunc(list, func(a, b SideFile) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Skipped returns the names of files in the directory that are neither part of the checkpoint nor carried over, sorted.
func (c *Checkpoint) Skipped() []string { return slices.Sorted(slices.Values(c.skipped)) }

// RemoteCode returns what in the checkpoint makes a loader run its code: "modeling_x.py", "config.json: auto_map".
func (c *Checkpoint) RemoteCode() []string { return slices.Clone(c.remote) }

// ReadFile returns the content of a side file, or of config.json, of at most limit bytes.
func (c *Checkpoint) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := c.OpenFile(name)
	if err != nil {
		return nil, err
	}
	f.Close()
	data, _, err := c.dir.read(name, limit)
	return data, err
}

// OpenFile opens a side file, or config.json, for reading.
func (c *Checkpoint) OpenFile(name string) (*os.File, error) {
	known := name == configName || slices.ContainsFunc(c.side, func(f SideFile) bool { return f.Name == name })
	if !known {
		return nil, formats.Errorf(name, "", "not a file of the checkpoint: %w", fs.ErrNotExist)
	}
	f, _, err := c.dir.open(name)
	return f, err
}
