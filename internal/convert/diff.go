package convert

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// DiffOptions say which two models to compare.
type DiffOptions struct {
	A, B string // directories or GGUF files
	// Ignore names tensors, or modules, that are left out: names, or re:<regular expression>.
	Ignore []string
	// Rename changes names of B's tensors before they are looked for in A: PATTERN=REPLACEMENT.
	Rename []string
	// Equal is the gate that every value has the same bits.
	Equal bool
	// MaxError is the gate that no tensor has a relative error above it; nil for none.
	MaxError *float64

	AllowRemoteCode bool
	Threads         int
	Env             pipeline.Env
}

func (o *DiffOptions) check() error {
	if err := checkIgnore(o.Ignore); err != nil {
		return usage("", "%w", err)
	}
	if e := o.MaxError; e != nil && !(*e >= 0 && *e <= math.MaxFloat64) {
		return usage("", "--max-error %v: want a number of at least 0", *e)
	}
	return nil
}

// Diff compares two models in whatever formats, tensor by tensor and value by value. What it finds does not depend on the number of threads.
// Gates that do not hold are no error here: see [Difference.Failed].
//
// Peak memory, besides headers and configurations: for each of Threads+1 workers two buffers of 2^16 values, 512 KiB together, and what one such
// read takes in the views of the two models, at most 13·max(In, 2^16) bytes in each, and as much again that the collector has not got to.
// For each model of GPTQ or AWQ besides those what [formats.Grids] keeps, 32 MiB and a band of 4 Mi codes for each worker, of which there are then
// six at most. A tensor of wider types (F64, integers) takes another 2 MiB of each worker.
func Diff(ctx context.Context, o DiffOptions) (*Difference, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &pairing{ignore: o.Ignore}
	for _, s := range o.Rename {
		r, err := checkpoint.ParseRename(s)
		if err != nil {
			return nil, usage("", "%w", err)
		}
		p.rename = append(p.rename, r)
	}
	var err error
	open := checkpoint.Options{AllowRemoteCode: o.AllowRemoteCode, AnyModel: true}
	if p.a, err = checkpoint.Open(o.A, open); err != nil {
		return nil, side(sideA, err)
	}
	defer p.a.Close()
	if p.b, err = checkpoint.Open(o.B, open); err != nil {
		return nil, side(sideB, err)
	}
	defer p.b.Close()
	if err := p.match(); err != nil {
		return nil, err
	}
	return o.compare(ctx, p)
}

// sideA and sideB are what errors call the two models, which may have one name.
const (
	sideA = "A"
	sideB = "B"
)

// side says which model an error is about.
func side(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("model %s: %w", name, err)
}

// compare finds everything that differs.
func (o *DiffOptions) compare(ctx context.Context, p *pairing) (*Difference, error) {
	d := &Difference{Schema: DifferenceSchema, Ignored: append([]string{}, p.ignored...), Tensors: []TensorDifference{}, Gates: []Gate{}}
	slices.Sort(d.Ignored)
	var err error
	if d.A, err = sideOf(p.a); err != nil {
		return nil, side(sideA, err)
	}
	if d.B, err = sideOf(p.b); err != nil {
		return nil, side(sideB, err)
	}
	if d.Config, err = diffConfig(p.a.Config(), p.b.Config()); err != nil {
		return nil, err
	}
	if d.AttentionPlan, err = diffPlans(p.a, p.b); err != nil {
		return nil, err
	}
	if d.Files, err = diffFiles(p.a, p.b); err != nil {
		return nil, err
	}
	if d.Tensors, err = o.tensors(ctx, p.pairs); err != nil {
		return nil, err
	}
	k := kinds{describe(p.a.Arch), describe(p.b.Arch)}
	d.Equal = true
	for i := range d.Tensors {
		t := &d.Tensors[i]
		t.Kind = k.of(t)
		d.Equal = d.Equal && t.Status == Equal
	}
	d.gates(o)
	return d, errors.Join(side(sideA, p.a.CheckUnchanged()), side(sideB, p.b.CheckUnchanged()))
}

// sideOf describes one model.
func sideOf(c *checkpoint.Checkpoint) (Side, error) {
	s := Side{Name: c.Name(), Format: formatOf(c), Tensors: len(c.Dense.Tensors()), Bytes: c.StoredBytes(),
		Warnings: append(append([]string{}, c.Warnings()...), c.Notes()...)}
	for _, t := range c.Dense.Tensors() {
		n, err := t.Elements()
		if err != nil {
			return s, formats.Errorf(c.Name(), t.Name, "%w", err)
		}
		s.Parameters += n
	}
	if s.Parameters > 0 {
		s.BitsPerWeight = rounded(8 * float64(s.Bytes) / float64(s.Parameters))
	}
	if c.Arch == nil {
		s.Warnings = append(s.Warnings, fmt.Sprintf("tensors are compared by name alone: %v", firstLine(c.Unknown)))
		return s, nil
	}
	s.Architecture, s.KVBytesToken = c.Arch.Architecture, c.Arch.KVBytesPerToken(2)
	return s, nil
}

// formatOf names the format of a model's weights: of its file, and how those that are quantized are.
func formatOf(c *checkpoint.Checkpoint) string {
	if c.Quantized == nil || c.GGUF != nil {
		return c.Format
	}
	var names []string
	for _, t := range c.Quantized.Tensors() {
		if s, ok := c.Quantized.Storage(t.Name); ok && !slices.Contains(names, s.Format) {
			names = append(names, s.Format)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func firstLine(err error) string {
	line, _, more := strings.Cut(err.Error(), "\n")
	if more {
		line += " …"
	}
	return line
}
