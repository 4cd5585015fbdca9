package convert

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// directory decides a conversion to a directory of safetensors files.
type directory struct {
	o      *Options
	c      *checkpoint.Checkpoint
	known  map[string]weight
	keep   map[string]bool // stored tensors of quantized weights
	pieces []piece
	used   []moduleSetting
	plain  []string
	tied   *bool
	warn   []string
	faults []error // modules that cannot be stored
}

// planDirectory decides what becomes of every tensor.
func planDirectory(o *Options, c *checkpoint.Checkpoint) (*directory, error) {
	d := &directory{o: o, c: c, known: weights(c.Arch, o.Head), keep: map[string]bool{}}
	if err := d.possible(); err != nil {
		return nil, err
	}
	if o.Format == Same {
		for _, t := range c.DataOrder() {
			d.pieces = append(d.pieces, copied{src: c.Store, info: t, as: t.Name})
		}
		return d, nil
	}
	if plan, err := planOf(c); c.GGUF != nil && (plan != nil || err != nil) {
		d.warn = append(d.warn, "the file carries an attention plan, which belongs to the weights as they were before they became GGUF: left out")
	}
	for _, t := range inOrder(c) {
		if err := d.tensor(t); err != nil {
			return nil, err
		}
	}
	if o.Untie && c.Arch.Tied {
		if err := d.untie(); err != nil {
			return nil, err
		}
	}
	if err := d.refused(); err != nil {
		return nil, err
	}
	d.join()
	sort.SliceStable(d.used, func(i, j int) bool { return d.layerOf(d.used[i].module) < d.layerOf(d.used[j].module) })
	return d, nil
}

// unquantized lists the linear modules that the result stores plainly, in the order of layers after the output head: by the names that a
// runtime gives them too, where it looks for its own.
func (d *directory) unquantized() []string {
	if !d.o.packs() {
		return nil
	}
	plain := slices.Clone(d.plain)
	sort.SliceStable(plain, func(i, j int) bool { return d.layerOf(plain[i]) < d.layerOf(plain[j]) })
	head := func(m string) bool { return m == arch.HeadModule }
	plain = slices.DeleteFunc(plain, head)
	if !slices.ContainsFunc(d.used, func(u moduleSetting) bool { return head(u.module) }) {
		plain = slices.Insert(plain, 0, arch.HeadModule)
	}
	if d.o.Format != Packed {
		plain = append(plain, d.c.Arch.FusedModules(plain)...)
	}
	return plain
}

// possible refuses what no tensor needs to be looked at for.
func (d *directory) possible() error {
	if d.o.Format == Same && d.c.Format == checkpoint.FormatGGUF {
		return usage("choose --to safetensors or another format", "a GGUF file's tensors are in no form that safetensors has")
	}
	if d.o.Format == Same || d.o.Format == Safetensors {
		return nil
	}
	if d.c.Arch == nil {
		return usage("convert with --to same or --to safetensors, which look at no names", "which tensors of the model are linear modules is not known: %v", d.c.Unknown)
	}
	if !d.c.Arch.PackedModules {
		return usage("convert with --to gguf, or --to safetensors", "%s holds its projections in Conv1D modules, which %s cannot name", d.c.Arch.Family, d.o.Format)
	}
	return nil
}

func usage(hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.KindUsage, Err: fmt.Errorf("convert: "+format, args...), Hint: hint}
}

// tensor decides what becomes of one tensor of the dense view.
func (d *directory) tensor(t formats.TensorInfo) error {
	w := d.known[t.Name]
	if w.dropped {
		d.warn = append(d.warn, fmt.Sprintf("%s is a copy of the embedding, which config.json ties it to: left out", t.Name))
		return nil
	}
	if !w.lin.Present() {
		d.other(t, t.Name)
		return nil
	}
	return d.linear(t, w)
}

// linear decides what becomes of the weight of a linear module, whose name in the result is that of the module.
func (d *directory) linear(t formats.TensorInfo, w weight) error {
	if !d.o.packs() || d.o.ignores(w.lin.Module()) {
		d.plain = append(d.plain, w.lin.Module())
		d.other(t, w.lin.Weight)
		return nil
	}
	set, carry, why, err := d.setting(t, w.lin)
	var fault *formats.Error
	if errors.As(err, &fault) {
		d.faults = append(d.faults, err)
		return nil
	}
	if err != nil {
		return err
	}
	from := storage(d.c.Dense, d.c.Quantized, t.Name)
	d.used = append(d.used, moduleSetting{w.lin.Module(), set, w.lin})
	if set.float != nil {
		d.pieces = append(d.pieces, floated{src: d.c.Dense, weight: t.Name, module: w.lin.Module(), out: w.lin.Out, in: w.lin.In, set: set, from: from, fused: w.fused})
		return nil
	}
	g := gridded{src: d.c.Dense, weight: t.Name, module: w.lin.Module(), out: w.lin.Out, in: w.lin.In, set: set, from: from, why: why}
	if carry {
		g.quant = d.c.Quantized
	}
	d.pieces = append(d.pieces, g)
	return nil
}

// other adds a tensor that is written with plain values, under a name.
func (d *directory) other(t formats.TensorInfo, as string) {
	_, packed := d.storedAs(t.Name)
	to := t
	to.Name = as
	if want, ok := dtypes[d.o.DType]; ok && t.DType.IsFloat() {
		to.DType = want
	} else if packed && t.DType == formats.F32 {
		to.DType = checkpoint.ModelDType(d.c.TorchDType())
	}
	how := Cast
	switch {
	case packed:
		how = Dequantized
	case to.DType == t.DType:
		d.pieces = append(d.pieces, copied{src: d.c.Dense, info: t, as: as})
		return
	}
	d.pieces = append(d.pieces, cast{src: d.c.Dense, name: t.Name, from: storage(d.c.Dense, d.c.Quantized, t.Name), how: how, to: to})
}

var dtypes = map[string]formats.DType{"f32": formats.F32, "f16": formats.F16, "bf16": formats.BF16}

func (d *directory) storedAs(name string) (formats.Storage, bool) {
	if d.c.Quantized == nil {
		return formats.Storage{}, false
	}
	return d.c.Quantized.Storage(name)
}

// untie writes the embedding once more, as the output head.
func (d *directory) untie() error {
	m := d.c.Arch
	e, ok := d.c.Dense.Lookup(m.Embed)
	if !ok {
		return formats.Errorf("", m.Embed, "no such tensor")
	}
	no := false
	d.tied = &no
	name := arch.HeadModule + ".weight"
	if !d.o.Head {
		d.other(e, name)
		return nil
	}
	return d.linear(e, weight{lin: arch.Linear{Weight: name, In: m.D, Out: m.V, StoredOut: m.V}, layer: -1})
}

// layerOf is the layer of a module, the number of layers for the output head.
func (d *directory) layerOf(module string) int {
	l := d.c.Arch.LayerOf(module + ".weight")
	if l < 0 {
		return len(d.c.Arch.Layers)
	}
	return l
}
