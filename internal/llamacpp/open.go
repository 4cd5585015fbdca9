package llamacpp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
)

// Loaded is a GGUF file as a Hugging Face checkpoint.
type Loaded struct {
	Config []byte            // config.json
	View   formats.Quantized // the weights under their names there, rows and shapes as there; what is stored in blocks shows as F32
	Files  map[string][]byte // tokenizer.json and tokenizer_config.json, where the tokenizer can be written as such
	// Warnings say what the checkpoint does not have of the file, one sentence each.
	Warnings []string
}

// architectures are those that can be read, as errors list them.
var architectures = []string{archLlama, archDeci, archQwen2, archQwen3, archGPT2}

// Open reads the metadata of a GGUF file and shows it as a checkpoint of the family that it holds. Everything in it is hostile: faults are
// errors of type *formats.Error, all of one stage joined. The file must stay open as long as the view is used.
//
// Peak memory: the lists of the file once more, and four times its tokenizer.
func Open(f File) (*Loaded, error) {
	r, err := newRestorer(f)
	if err != nil {
		return nil, err
	}
	skeleton := r.model()
	if len(r.faults) > 0 {
		return nil, errors.Join(r.faults...)
	}
	files, ids, warnings := tokenizerFiles(f)
	config, err := skeleton.Config(ids)
	if err != nil {
		return nil, formats.Errorf(f.Name(), "", "%w", err)
	}
	m, err := arch.DescribeConfig(config)
	if err != nil {
		return nil, inFile(f, err)
	}
	view, err := newView(f, r.tensors, describeAs(m, r.architecture))
	if err != nil {
		return nil, err
	}
	if _, err := arch.Describe(config, view); err != nil {
		return nil, inFile(f, err)
	}
	if unknown := r.unknown(); len(unknown) > 0 {
		warnings = append(warnings, "keys that are not understood: "+listed(unknown))
	}
	return &Loaded{Config: config, View: view, Files: files, Warnings: warnings}, nil
}

func newRestorer(f File) (*restorer, error) {
	v, ok := f.Lookup(keyArchitecture)
	name, isText := v.Str()
	if !ok || !isText {
		return nil, formats.Errorf(f.Name(), "", "key %q is missing or no text", keyArchitecture)
	}
	if !slices.Contains(architectures, name) {
		return nil, formats.Errorf(f.Name(), "", "%w: architecture %q; supported are %s", arch.ErrUnsupported, clip(name),
			strings.Join(architectures, ", "))
	}
	r := &restorer{metadata: metadata{file: f, prefix: name + ".", used: map[string]bool{}}, architecture: name,
		tensors: map[string]gguf.Tensor{}}
	for _, t := range f.Tensors() {
		r.tensors[t.Name] = t
	}
	return r, nil
}

// inFile names the file in an error of the configuration that was made from it.
func inFile(f File, err error) error {
	return formats.Errorf(f.Name(), "", "the model that its metadata describe: %w", err)
}

// describeAs lists the tensors of a model under a given architecture, without its rules.
func describeAs(m *arch.Model, architecture string) []Tensor {
	d := &describer{src: m, out: &Model{Architecture: architecture}}
	d.tensors()
	return d.out.Tensors
}

// bytesOf returns the stored size of a tensor.
func bytesOf(t gguf.Tensor) (int64, error) {
	n, err := formats.TensorInfo{Shape: t.Shape}.Elements()
	if err != nil {
		return 0, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return t.Type.RowBytes(n)
}
