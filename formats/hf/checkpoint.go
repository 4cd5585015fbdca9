// Package hf reads checkpoints as Hugging Face tools lay them out in a directory: config.json, safetensors weights in
// one file or sharded under an index, tokenizer files and chat templates. Everything in the directory is taken for
// hostile: names do not lead out of it, JSON is strict, code is refused unless asked for.
package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

// ErrRemoteCode is the cause when a checkpoint brings Python code that a loader would run.
var ErrRemoteCode = errors.New("the checkpoint brings its own code")

// Checkpoint is an open checkpoint directory. It implements [formats.Source] and is safe for concurrent use.
type Checkpoint struct {
	dir      *directory
	name     string
	config   []byte
	members  []member
	quant    json.RawMessage     // of a file beside config.json
	files    []*safetensors.File // sorted by name
	owner    map[string]*safetensors.File
	tensors  []formats.TensorInfo
	seen     map[string]fs.FileInfo // files other than shards, for CheckUnchanged
	side     []SideFile
	skipped  []string
	remote   []string
	warnings []string
}

var _ formats.Source = (*Checkpoint)(nil)

// Option changes what Open accepts.
type Option func(*options)

type options struct{ remoteCode bool }

// AllowRemoteCode accepts checkpoints with *.py files or an auto_map, and lists the *.py files among [Checkpoint.Files].
// Nothing here ever runs them.
func AllowRemoteCode() Option { return func(o *options) { o.remoteCode = true } }

// Open opens the checkpoint in a directory and checks its configuration, its index and the header of every shard; it
// reads no weights. Errors about content are of type [*formats.Error] and name files by their base name.
func Open(dir string, opts ...Option) (*Checkpoint, error) {
	var o options
	for _, f := range opts {
		f(&o)
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{dir: d, name: filepath.Base(dir), owner: map[string]*safetensors.File{}, seen: map[string]fs.FileInfo{}}
	for _, step := range []func() error{
		c.openConfig,
		func() error { return c.openSide(o.remoteCode) },
		c.openWeights,
		c.openQuantConfig,
	} {
		if err := step(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *Checkpoint) openConfig() error {
	raw, info, err := c.dir.read(configName, maxConfigBytes)
	if err != nil {
		return err
	}
	c.config, c.seen[configName] = raw, info
	c.members, err = members(raw, configName)
	return err
}

// openWeights opens the one weight file, or the shards that the index names.
func (c *Checkpoint) openWeights() error {
	single, sharded := c.dir.exists(singleName), c.dir.exists(indexName)
	switch {
	case sharded:
		return c.openShards(single)
	case single:
		f, err := c.openFile(singleName)
		if err != nil {
			return err
		}
		for _, t := range f.Tensors() {
			c.owner[t.Name] = f
		}
		c.tensors = f.Tensors()
		return nil
	}
	return c.noWeights()
}

// noWeights is the error of a directory without weights, or with shards that no index describes.
func (c *Checkpoint) noWeights() error {
	entries, err := c.dir.list(".")
	if err != nil {
		return formats.Errorf(c.name, "", "%w", underlying(err))
	}
	var shards []string
	for _, e := range entries {
		if shardName.MatchString(e.Name()) {
			shards = append(shards, e.Name())
		}
	}
	if len(shards) > 0 {
		return formats.Errorf(indexName, "", "it is not there, and without it no loader knows what is in the %d weight files (the first is %s)", len(shards), quote(shards[0]))
	}
	return formats.Errorf(c.name, "", "neither %s nor %s is in the directory", singleName, indexName)
}

func (c *Checkpoint) openFile(name string) (*safetensors.File, error) {
	f, _, err := c.dir.open(name)
	if err != nil {
		return nil, err
	}
	s, err := safetensors.OpenFile(f, name)
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, s)
	return s, nil
}

func (c *Checkpoint) openShards(single bool) error {
	raw, info, err := c.dir.read(indexName, maxIndexBytes)
	if err != nil {
		return err
	}
	x, err := parseIndex(raw, indexName)
	if err != nil {
		return err
	}
	c.seen[indexName] = info
	if single && !slices.Equal(x.shards, []string{singleName}) {
		return formats.Errorf(indexName, "", "the directory also has %s, which loaders prefer: it is unclear which weights are meant", singleName)
	}
	for _, name := range x.shards {
		f, err := c.openFile(name)
		if err != nil {
			return err
		}
		if err := c.addShard(f, x); err != nil {
			return err
		}
	}
	return c.checkComplete(x)
}

// addShard checks that each tensor of a shard is one that the index puts there.
func (c *Checkpoint) addShard(f *safetensors.File, x *index) error {
	for _, t := range f.Tensors() {
		switch shard, ok := x.shardOf[t.Name]; {
		case !ok:
			return formats.Errorf(f.Name(), t.Name, "the tensor is not in %s", indexName)
		case shard != f.Name():
			return formats.Errorf(f.Name(), t.Name, "%s puts the tensor into %s", indexName, shard)
		}
		c.owner[t.Name] = f
		c.tensors = append(c.tensors, t)
	}
	return nil
}

// checkComplete looks for tensors that the index names and no shard has, and compares the sizes.
func (c *Checkpoint) checkComplete(x *index) error {
	slices.SortFunc(c.tensors, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(c.tensors) < len(x.shardOf) {
		var missing []string
		for name := range x.shardOf {
			if c.owner[name] == nil {
				missing = append(missing, name)
			}
		}
		first := slices.Min(missing)
		return formats.Errorf(x.shardOf[first], clip(first), "%s puts the tensor here, but it is missing (as are %d others)", indexName, len(missing)-1)
	}
	total := int64(0)
	for _, t := range c.tensors {
		n, _ := t.Bytes() // checked when the shard was opened; the sum is bounded by the sizes of open files
		total += n
	}
	if x.totalSize >= 0 && x.totalSize != total {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: total_size is %d, but the tensors have %d bytes", indexName, x.totalSize, total))
	}
	return nil
}

// Tensors returns every tensor, sorted by name.
func (c *Checkpoint) Tensors() []formats.TensorInfo { return c.tensors }

// DataOrder returns every tensor in the order of its data on disk, shard after shard.
func (c *Checkpoint) DataOrder() []formats.TensorInfo {
	order := make([]formats.TensorInfo, 0, len(c.tensors))
	for _, f := range c.files {
		order = append(order, f.DataOrder()...)
	}
	return order
}

// Lookup returns the description of one tensor.
func (c *Checkpoint) Lookup(name string) (formats.TensorInfo, bool) {
	f, ok := c.owner[name]
	if !ok {
		return formats.TensorInfo{}, false
	}
	return f.Lookup(name)
}

// ReadAt fills p with data of a tensor from byte offset off.
func (c *Checkpoint) ReadAt(name string, p []byte, off int64) error {
	f, ok := c.owner[name]
	if !ok {
		return formats.Errorf(c.name, name, "no such tensor")
	}
	return f.ReadAt(name, p, off)
}

// Prefetch asks for the data of tensors to be read ahead; see [formats.Prefetcher].
func (c *Checkpoint) Prefetch(names []string) {
	for _, f := range c.files {
		f.Prefetch(names)
	}
}

// Shard returns the name of the file that holds a tensor, "" if none does.
func (c *Checkpoint) Shard(tensor string) string {
	if f, ok := c.owner[tensor]; ok {
		return f.Name()
	}
	return ""
}

// Shards returns the open weight files, sorted by name.
func (c *Checkpoint) Shards() []*safetensors.File { return slices.Clone(c.files) }

// ShardNames returns the names of the weight files, in order.
func (c *Checkpoint) ShardNames() []string {
	names := make([]string, len(c.files))
	for i, f := range c.files {
		names[i] = f.Name()
	}
	return names
}

// Config returns config.json byte for byte. It has been checked as strict JSON: an object, no duplicate keys, no NaN.
// The caller must not change it.
func (c *Checkpoint) Config() []byte { return c.config }

// QuantizationConfig returns the value of quantization_config in config.json (compression_config in checkpoints of older
// compressed-tensors releases), or a file beside it in which GPTQ and AWQ programs wrote it, nil where the weights are not quantized.
func (c *Checkpoint) QuantizationConfig() json.RawMessage {
	if q := lookup(c.config, c.members, "quantization_config"); q != nil {
		return q
	}
	if q := lookup(c.config, c.members, "compression_config"); q != nil {
		return q
	}
	return c.quant
}

// Warnings returns what is odd about the checkpoint without making it unusable.
func (c *Checkpoint) Warnings() []string { return slices.Clone(c.warnings) }

// Name returns the base name of the directory, as the caller of Open gave it.
func (c *Checkpoint) Name() string { return c.name }

// CheckUnchanged returns an error if a file of the checkpoint is not the one that was opened, or has another size or
// modification time than then. A command that has read weights for hours asks this before it calls its output good.
func (c *Checkpoint) CheckUnchanged() error {
	for _, f := range c.files {
		if err := f.CheckUnchanged(); err != nil {
			return err
		}
		if err := c.dir.unchanged(f.Name(), f.Info()); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(c.seen))
	for name := range c.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := c.dir.unchanged(name, c.seen[name]); err != nil {
			return err
		}
	}
	return nil
}

// Close closes every file. Reads after it fail.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	errs = append(errs, c.dir.root.Close())
	return errors.Join(errs...)
}
