package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"modelpress/formats"
	"modelpress/formats/awq"
	"modelpress/formats/gguf"
	"modelpress/formats/gptq"
	"modelpress/formats/hf"
	"modelpress/formats/packed"
	"modelpress/internal/arch"
)

// Checkpoint is an opened model.
type Checkpoint struct {
	// Store is the model as it lies on disk.
	Store
	// Path is what was opened.
	Path string
	// Dense shows every weight in its logical form; it is Store itself where nothing is quantized.
	Dense formats.Source
	// Quantized is Dense where some weight is quantized, else nil.
	Quantized formats.Quantized
	// Directory is the directory that was opened, nil for a GGUF file; its tensors have the names that they have there.
	Directory *hf.Checkpoint
	// GGUF is the file that was opened, nil for a directory.
	GGUF *gguf.File
	// Format names how the model is stored: "safetensors", "gguf".
	Format string
	// Arch describes the model; it is nil, and Unknown says why, where Options.AnyModel let a model in that is not understood.
	Arch    *arch.Model
	Unknown error

	stored int64 // what a quantized model takes, in one that shows it plain
}

// The formats of files.
const (
	FormatSafetensors = "safetensors"
	FormatGGUF        = "gguf"
)

// ErrQuantization is the cause of a failure to read quantized weights: another copy of the model may help.
var ErrQuantization = errors.New("quantized weights")

// Options change what is accepted.
type Options struct {
	AllowRemoteCode bool // keep Python code that a directory brings
	AnyModel        bool // accept models of families that are not known, and tensors that do not fit the configuration
	Rename          []Rename
}

// Open opens a directory or a GGUF file: config, headers of all tensors, side files, and no weights.
//
// Peak memory: the headers, config and index; for quantized weights of some formats one module's codes (see their views).
func Open(path string, o Options) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return openGGUF(path, o.Rename)
	}
	var opts []hf.Option
	if o.AllowRemoteCode {
		opts = append(opts, hf.AllowRemoteCode())
	}
	ck, err := hf.Open(path, opts...)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{Store: ck, Path: path, Dense: ck, Directory: ck, Format: FormatSafetensors}
	if err := c.rename(o.Rename); err != nil {
		return nil, errors.Join(err, ck.Close())
	}
	if err := c.describe(o.AnyModel); err != nil {
		return nil, errors.Join(err, ck.Close())
	}
	return c, nil
}

// describe finds the dense view and the description of a directory.
func (c *Checkpoint) describe(any bool) error {
	if q := c.QuantizationConfig(); q != nil {
		view, err := quantized(c.Store, c.Config(), q)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrQuantization, err)
		}
		c.Dense, c.Quantized = view, view
	}
	var err error
	if c.Arch, err = arch.Describe(c.Config(), c.Dense); err != nil {
		c.nameFiles(err)
		if any {
			c.Arch, c.Unknown, err = nil, err, nil
		}
	}
	return err
}

// quantized opens the view that a quantization_config asks for. model is config.json, which tells what modules of a family are.
func quantized(src formats.Source, model []byte, config json.RawMessage) (formats.Quantized, error) {
	var method struct {
		Method string `json:"quant_method"`
	}
	if err := json.Unmarshal(config, &method); err != nil {
		return nil, formats.Errorf("config.json", "", "quantization_config: %w", err)
	}
	switch method.Method {
	case "gptq":
		return gptq.DenseConv1D(src, config, arch.Conv1D(model))
	case "awq":
		return awq.Dense(src, config)
	}
	return packed.Dense(src, config)
}

// nameFiles adds the file to every fault of a tensor that does not name one: its shard, or what lists the tensors where no
// file holds it.
func (c *Checkpoint) nameFiles(err error) {
	switch e := err.(type) {
	case *formats.Error:
		if e.Tensor == "" || e.File != "" {
			return
		}
		if e.File = c.Shard(e.Tensor); e.File == "" {
			e.File = "model.safetensors.index.json"
			if list := c.ShardNames(); len(list) == 1 {
				e.File = list[0]
			}
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			c.nameFiles(one)
		}
	case interface{ Unwrap() error }:
		c.nameFiles(e.Unwrap())
	}
}

// TorchDType returns the element type that the configuration names, "" where it names none.
func (c *Checkpoint) TorchDType() string {
	var keys struct {
		Torch string `json:"torch_dtype"`
		Plain string `json:"dtype"`
	}
	if json.Unmarshal(c.Config(), &keys) != nil {
		return ""
	}
	if keys.Torch != "" {
		return keys.Torch
	}
	return keys.Plain
}

// StoredBytes is what the tensors take in their files.
func (c *Checkpoint) StoredBytes() int64 {
	total := c.stored
	if total > 0 {
		return total
	}
	if c.GGUF != nil {
		for _, t := range c.GGUF.Tensors() {
			if n, err := t.Bytes(); err == nil { // it was checked when the file was opened
				total += n
			}
		}
		return total
	}
	for _, t := range c.Store.Tensors() {
		if n, err := t.Bytes(); err == nil { // it was checked when the file was opened
			total += n
		}
	}
	return total
}

// TensorBytes is what a tensor of Dense takes in the files: of a quantized weight, all that it is stored in.
func (c *Checkpoint) TensorBytes(name string) (int64, error) {
	if c.Quantized != nil {
		if s, ok := c.Quantized.Storage(name); ok {
			return c.storageBytes(s)
		}
	}
	t, ok := c.Dense.Lookup(name)
	if !ok {
		return 0, formats.Errorf("", name, "no such tensor")
	}
	return t.Bytes()
}

func (c *Checkpoint) storageBytes(s formats.Storage) (int64, error) {
	total := int64(0)
	for _, name := range s.Tensors {
		var n int64
		var err error
		if c.GGUF != nil {
			t, _ := c.GGUF.Find(name) // the view was made of it
			n, err = t.Bytes()
		} else {
			t, _ := c.Store.Lookup(name)
			n, err = t.Bytes()
		}
		if err != nil {
			return 0, formats.Errorf("", name, "%w", err)
		}
		total += n
	}
	return total, nil
}

// Notes returns what was found out about quantized weights that their configuration does not say, or says wrongly.
func (c *Checkpoint) Notes() []string {
	if n, ok := c.Quantized.(interface{ Notes() []string }); ok {
		return n.Notes()
	}
	return nil
}
