package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/safetensors"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

const (
	configName = "config.json"
	indexName  = "model.safetensors.index.json"
)

// toDirectory converts to a directory of safetensors files.
func toDirectory(ctx context.Context, o *Options, c *checkpoint.Checkpoint) (*Result, error) {
	d, err := planDirectory(o, c)
	if err != nil {
		return nil, err
	}
	config, extra, err := d.config()
	if err != nil {
		return nil, err
	}
	layout, err := safetensors.PlanLayout(outs(d.pieces), o.MaxShardBytes)
	if err != nil {
		return nil, err
	}
	if err := o.checkMemory(d.pieces); err != nil {
		return nil, err
	}
	r := d.result(layout)
	for _, w := range d.warn {
		o.warn(w)
	}
	if o.Out == "" {
		return r, o.report(r)
	}
	dir, err := pipeline.CreateOutputDir(o.Model, o.Out)
	if err != nil {
		return nil, err
	}
	err = d.write(ctx, dir, layout, config, extra, r)
	return r, errors.Join(err, dir.Discard())
}

// config returns config.json of the result, and files that belong beside it.
func (d *directory) config() (config []byte, extra map[string][]byte, err error) {
	extra = map[string][]byte{}
	raw := d.c.Config()
	var set []hf.KV
	remove := []string{"attention_plan"}
	if d.o.Format != Same {
		quant, file, err := quantizationConfig(d.o.Format, d.used, d.unquantized())
		if err != nil {
			return nil, nil, usage("give --bits and --group-size to put all on one grid", "%v", err)
		}
		if file != "" {
			extra[file] = append(slices.Clone(quant), '\n')
		}
		var more []string
		set, more = configEdits(quant, d.tied)
		set = append(set, d.torchDType()...)
		remove = append(remove, more...)
	} else {
		set = checkpoint.QuantizationEdit(d.c.Store)
	}
	config, err = hf.EditConfig(raw, set, remove)
	return config, extra, err
}

// torchDType are the keys of the configuration that name the element type, where that changes. Releases of transformers before 5 read
// torch_dtype, later ones dtype first.
func (d *directory) torchDType() []hf.KV {
	name := map[string]string{"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[d.o.DType]
	if name == "" {
		return nil
	}
	var have map[string]json.RawMessage
	_ = json.Unmarshal(d.c.Config(), &have) // it was read before
	var set []hf.KV
	for _, key := range []string{"torch_dtype", "dtype"} {
		if have[key] != nil || key == "torch_dtype" && have["dtype"] == nil {
			set = append(set, hf.KV{Key: key, Value: name})
		}
	}
	return set
}

// result is what is known before anything is written.
func (d *directory) result(l safetensors.Layout) *Result {
	r := &Result{Schema: Schema, Tool: d.o.Tool, Model: d.c.Name(), From: d.c.Format, To: d.o.Format, Tensors: []Note{}, Warnings: slices.Concat(d.o.found, d.warn),
		SourceHeaders: hf.HeadersDigest(d.c.Store.Tensors()), BytesBefore: d.c.StoredBytes(), BytesAfter: l.TotalBytes()}
	for i, n := range l.FileSizes(nil) {
		r.Files = append(r.Files, File{Name: l.Shards[i].Name, Bytes: n})
	}
	return r
}

// tensorBytes is what tensors take; one whose size does not fit is refused elsewhere.
func tensorBytes(list []formats.TensorInfo) int64 {
	total := int64(0)
	for _, t := range list {
		n, err := t.Bytes()
		if err == nil {
			total += n
		}
	}
	return total
}

// write fills the directory and commits it.
func (d *directory) write(ctx context.Context, dir *pipeline.OutputDir, l safetensors.Layout, config []byte, extra map[string][]byte, r *Result) error {
	w, err := d.tensors(ctx, dir.Dir(), l, r)
	if err != nil {
		return err
	}
	for _, t := range outs(d.pieces) {
		if n, ok := w.note[t.Name]; ok {
			r.Tensors = append(r.Tensors, n)
		}
	}
	if err := d.o.checkLossless(r.Tensors); err != nil {
		return err
	}
	d.o.warnLost(r)
	if len(l.Shards) > 1 {
		if err := formats.WriteFileAtomic(filepath.Join(dir.Dir(), indexName), l.Index()); err != nil {
			return err
		}
	}
	for _, f := range d.c.Files() {
		if strings.EqualFold(f.Name, "README.md") && d.o.Format != Same { // it describes the weights as they were
			continue
		}
		if _, err := d.c.CopyFile(dir.Dir(), f.Name); err != nil {
			return err
		}
	}
	for name, data := range extra {
		if err := formats.WriteFileAtomic(filepath.Join(dir.Dir(), name), data); err != nil {
			return err
		}
	}
	if r.Proof, err = d.prove(ctx, dir.Dir(), config, w.note); err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("convert: %w", err)
	}
	var digests []hf.TensorDigest
	for _, t := range outs(d.pieces) {
		digests = append(digests, hf.TensorDigest{TensorInfo: t, SHA256: w.sums[t.Name]})
	}
	slices.SortFunc(digests, func(a, b hf.TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	if err := errors.Join(d.c.CheckUnchanged(), d.o.report(r)); err != nil {
		return err
	}
	_, err = dir.Commit(ctx, pipeline.Converted{Model: d.o.Model, AllowRemoteCode: d.o.AllowRemoteCode, Config: config, Digests: digests,
		SourceHeaders: r.SourceHeaders, BytesBefore: r.BytesBefore, Tool: d.o.Tool, Conversion: raw}, d.o.Env)
	return err
}

// tensors writes the shards.
func (d *directory) tensors(ctx context.Context, dir string, l safetensors.Layout, r *Result) (*work, error) {
	out, err := safetensors.Create(dir, l, nil)
	if err != nil {
		return nil, err
	}
	w, err := d.o.run(ctx, d.pieces, out)
	if err == nil {
		err = out.Sync()
	}
	return w, errors.Join(err, out.Close())
}
