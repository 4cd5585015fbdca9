package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
	"modelpress/internal/llamacpp"
	"modelpress/internal/pipeline"
)

// ggufJob is a decided conversion to GGUF.
type ggufJob struct {
	o      *Options
	c      *checkpoint.Checkpoint
	m      *llamacpp.Model
	kv     []gguf.KV
	list   []gguf.Tensor
	pieces []piece
	warn   []string
}

// toGGUF converts to a GGUF file, or to several.
func toGGUF(ctx context.Context, o *Options, c *checkpoint.Checkpoint) (*Result, error) {
	j, err := planGGUF(o, c)
	if err != nil {
		return nil, err
	}
	layout, err := gguf.Plan(j.kv, j.list, j.options())
	if err != nil {
		return nil, usage("give a larger --max-shard-size, or leave it out", "%w", err)
	}
	if err := o.checkMemory(j.pieces); err != nil {
		return nil, err
	}
	r := j.result(layout)
	for _, w := range j.warn {
		o.warn(w)
	}
	if o.Out == "" {
		return r, o.report(r)
	}
	if err := absent(layout.Names(o.Out)); err != nil {
		return nil, err
	}
	out, err := gguf.Create(o.Out, j.kv, j.list, j.options())
	if err != nil {
		return nil, placed(err)
	}
	if err := j.write(ctx, out, r); err != nil {
		out.Abort()
		return nil, err
	}
	return r, placed(out.Commit())
}

// placed classes the errors of files that have no place.
func placed(err error) error {
	if errors.Is(err, formats.ErrLocked) || errors.Is(err, fs.ErrExist) {
		return &pipeline.Error{Kind: pipeline.KindExists, Err: err, Hint: "choose another name with -o, or wait for the other process"}
	}
	return err
}

func (j *ggufJob) options() gguf.Options { return gguf.Options{SplitBytes: j.o.MaxShardBytes} }

// planGGUF decides names, types and metadata.
func planGGUF(o *Options, c *checkpoint.Checkpoint) (*ggufJob, error) {
	model := c.Arch
	if o.Untie && model.Tied { // its output is then the embedding once more
		model = model.Clone()
		model.Tied = false
	}
	m, err := llamacpp.Describe(model)
	if err != nil {
		return nil, err
	}
	read := func(name string) ([]byte, error) { return c.ReadFile(name, 256<<20) }
	tokenizer, warn, err := llamacpp.Tokenizer(read, c.Arch.V)
	if err != nil {
		return nil, err
	}
	j := &ggufJob{o: o, c: c, m: m, warn: append(append([]string{}, m.Warnings...), warn...)}
	types, fileType, err := j.types()
	if err != nil {
		return nil, err
	}
	importance := make([][]float32, len(m.Tensors))
	if o.Importance != nil {
		if importance, warn, err = m.Importance(o.Importance); err != nil {
			return nil, err
		}
		j.warn = append(j.warn, warn...)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		j.list = append(j.list, gguf.Tensor{Name: t.Name, Type: types[i], Shape: t.Shape})
		b := blocks{src: c.Dense, t: t, typ: types[i], from: storage(c.Dense, c.Quantized, t.From), all: o.Prove || o.Lossless || types[i].Block() > 32}
		b.importance = importance[i]
		if st, ok := j.stored(t); ok && st.Grid && t.Shape[0] > 0 {
			switch {
			case st.Ordered:
				b.why = "columns belong to groups in an order of their own"
			case ggml.Grid(types[i]):
				b.quant = c.Quantized
			default:
				b.why = fmt.Sprintf("%s has no such grid", types[i])
			}
		}
		j.pieces = append(j.pieces, b)
	}
	j.kv = m.Metadata(c.Name(), fileType, tokenizer)
	if o.Importance != nil {
		j.kv = append(j.kv, llamacpp.ImportanceKeys(o.Importance)...)
	}
	plan, err := planOf(c)
	if err != nil {
		return nil, err
	}
	if plan != nil {
		j.kv = append(j.kv, gguf.KV{Key: planKey, Value: gguf.String(string(plan))})
	}
	if rest := leftOut(c, weights(c.Arch, true)); len(rest) > 0 {
		j.warn = append(j.warn, fmt.Sprintf("tensors that %s has no place for are left out: %s", m.Architecture, strings.Join(rest, ", ")))
	}
	return j, nil
}

// leftOut names tensors that a GGUF file does not hold, a few of them: those that the model does not name and that say something.
func leftOut(c *checkpoint.Checkpoint, known map[string]weight) []string {
	var list []string
	for _, name := range c.Arch.Unused(c.Dense) {
		if !arch.IsBuffer(name) && !known[name].dropped {
			list = append(list, name)
		}
	}
	const most = 8
	if n := len(list); n > most {
		list = append(list[:most], fmt.Sprintf("and %d more", n-most))
	}
	return list
}

// stored says how the weight is stored that a tensor is made of.
func (j *ggufJob) stored(t *llamacpp.Tensor) (formats.Storage, bool) {
	if j.c.Quantized == nil || t.From == "" || t.Vector {
		return formats.Storage{}, false
	}
	return j.c.Quantized.Storage(t.From)
}

// types chooses the type of each tensor: by a mix of llama.cpp, or as near to how it is stored as there is.
func (j *ggufJob) types() ([]ggml.Type, uint32, error) {
	if j.o.Type != "" {
		types, fileType, err := llamacpp.Mix(j.o.Type, j.m, j.o.Importance != nil)
		if err != nil {
			return nil, 0, usage("", "--type: %v", err)
		}
		return types, fileType, nil
	}
	types := make([]ggml.Type, len(j.m.Tensors))
	count := map[ggml.Type]int{}
	for i := range j.m.Tensors {
		t := &j.m.Tensors[i]
		types[i] = j.nearest(t)
		if !t.Vector {
			count[types[i]]++
		}
	}
	return types, fileTypeOf(count), nil
}

// nearest is the type that holds a tensor's values as they are, or F16.
func (j *ggufJob) nearest(t *llamacpp.Tensor) ggml.Type {
	if t.Vector || t.From == "" {
		return ggml.F32
	}
	if st, ok := j.stored(t); ok {
		if st.Grid && !st.Ordered {
			exact, fits := ggml.Exact(st.Code, st.Group, st.Symmetric, int(t.Shape[len(t.Shape)-1]))
			switch {
			case fits && exact == ggml.Q4_1: // its offsets are seldom numbers of F16; a code less its zero point has five bits
				return ggml.Q5_0
			case fits && exact != ggml.Q5_1:
				return exact
			}
		}
		return ggml.F16
	}
	info, _ := j.c.Dense.Lookup(t.From)
	switch info.DType {
	case formats.F32, formats.F64:
		return ggml.F32
	case formats.BF16:
		return ggml.BF16
	}
	return ggml.F16
}

// fileTypeOf is the number of general.file_type for the type that most matrices have.
func fileTypeOf(count map[ggml.Type]int) uint32 {
	best, most := ggml.F16, 0
	for _, t := range []ggml.Type{ggml.F32, ggml.F16, ggml.BF16, ggml.Q4_0, ggml.Q4_1, ggml.Q5_0, ggml.Q5_1, ggml.Q8_0} {
		if count[t] > most {
			best, most = t, count[t]
		}
	}
	return map[ggml.Type]uint32{ggml.F32: 0, ggml.F16: 1, ggml.BF16: 32, ggml.Q4_0: 2, ggml.Q4_1: 3, ggml.Q5_0: 8, ggml.Q5_1: 9, ggml.Q8_0: 7}[best]
}

// result is what is known before anything is written.
func (j *ggufJob) result(l gguf.Layout) *Result {
	r := &Result{Schema: Schema, Tool: j.o.Tool, Model: j.c.Name(), From: j.c.Format, To: GGUF, Tensors: []Note{}, Warnings: slices.Concat(j.o.found, j.warn),
		SourceHeaders: hf.HeadersDigest(j.c.Store.Tensors()), BytesBefore: j.c.StoredBytes(), BytesAfter: tensorBytes(outs(j.pieces))}
	name := "model.gguf"
	if j.o.Out != "" {
		name = filepath.Base(j.o.Out)
	}
	for i, n := range l.Names(name) {
		r.Files = append(r.Files, File{Name: n, Bytes: l.Files[i].Bytes})
	}
	return r
}

// write converts all tensors and compares those whose codes were carried over.
func (j *ggufJob) write(ctx context.Context, out *gguf.Writer, r *Result) error {
	w, err := j.o.run(ctx, j.pieces, out)
	if err != nil {
		return err
	}
	var carried []blocks
	for _, p := range j.pieces {
		b := p.(blocks)
		n := w.note[b.t.Name]
		r.Tensors = append(r.Tensors, n)
		if n.How == Carried {
			carried = append(carried, b)
		}
	}
	if err := j.o.checkLossless(r.Tensors); err != nil {
		return err
	}
	j.o.warnLost(r)
	if len(carried) > 0 {
		r.Proof = &Proof{}
		p := j.o.Env.Progress
		p.Start("comparing", int64(len(carried)))
		defer p.Done()
		for _, b := range carried {
			if err := errors.Join(ctx.Err(), b.prove(out.ReadAt, r.Proof)); err != nil {
				return err
			}
			p.Add(1)
		}
	}
	if err := j.c.CheckUnchanged(); err != nil {
		return err
	}
	return j.o.report(r)
}
