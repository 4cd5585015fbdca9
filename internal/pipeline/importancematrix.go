package pipeline

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/imatrix"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/llamacpp"
	"modelpress/internal/nn"
)

// ImportanceMatrix runs a model over calibration data and returns what llama-imatrix gathers: for each weight of a block that llama.cpp
// would have, the sums of squares of its inputs, and the number of tokens; with output also those of an output head that is a tensor of its
// own. o.Data, Windows, Skip, Length, BOS and ReplaceFirst choose the windows. A model that llama.cpp does not load is refused.
//
// Sums are kept in float64, in the order of windows, and rounded to float32 at the end.
//
// Peak memory: the forward pass of one block, 4·D·Σ T_i bytes of states (spilled past half a gigabyte), 8 bytes for each input of each layer
// and 4 for each of the result; with output 4·T·D more.
func ImportanceMatrix(ctx context.Context, o EvalOptions, output bool) (*imatrix.Matrix, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := openSource(o.ModelDir, o.AllowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	described, err := llamacpp.Describe(s.arch)
	if err != nil {
		return nil, err
	}
	e := &evaluator{o: o, s: s, m: o.Env.model(s)}
	defer e.m.Release()
	if err := e.loadTokenizer(); err != nil {
		return nil, err
	}
	w, err := e.windows()
	if err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, formats.Errorf(o.Data, "", "has no window of %d tokens", o.Length)
	}
	g := newInputSquares(e.m, o.Env, output)
	if err := guarded(func() error { return g.run(ctx, w.IDs) }); err != nil {
		return nil, err
	}
	x := g.matrix(described)
	x.Datasets, x.Chunks, x.ChunkSize = []string{filepath.Base(o.Data)}, len(w.IDs), o.Length
	return x, x.Check()
}

// inputSquares adds up the squares of what linear layers read.
type inputSquares struct {
	m      *nn.Model
	env    Env
	sums   [][arch.NumSites][]float64 // of each layer and site
	head   []float64                  // of the output head, nil where it is not asked for
	normed []float32
	tokens int
}

func newInputSquares(m *nn.Model, env Env, output bool) *inputSquares {
	g := &inputSquares{m: m, env: env, sums: make([][arch.NumSites][]float64, len(m.Arch.Layers))}
	for l := range g.sums {
		for site := range arch.NumSites {
			g.sums[l][site] = make([]float64, m.Arch.Layers[l].Width(site))
		}
	}
	if output {
		g.head = make([]float64, m.Arch.D)
	}
	return g
}

// run carries the windows through the model.
func (g *inputSquares) run(ctx context.Context, windows [][]int32) error {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
		g.tokens += len(w)
	}
	states, err := nn.NewStates(g.env.Scratch, lengths, g.m.Arch.D, stateMemory)
	if err != nil {
		return err
	}
	defer states.Close()
	tick, stop := counter(g.env.Progress, "squares of inputs")
	defer stop()
	opt := nn.RunOptions{States: states, Progress: tick, Pass: func(layer, _ int) *nn.Pass {
		return &nn.Pass{TapBuf: func(site nn.Site, x device.Buf, rows, cols int) { g.add(g.sums[layer][site], x, rows, cols) }}
	}}
	if g.head == nil {
		return g.m.Run(ctx, windows, opt, nil)
	}
	return g.m.Run(ctx, windows, opt, g.output)
}

// output adds the squares of what the output head reads of a window.
func (g *inputSquares) output(_ int, hidden []float32) error {
	g.normed = slices.Grow(g.normed[:0], len(hidden))[:len(hidden)]
	if err := g.m.FinalNorm(g.normed, hidden, len(hidden)/g.m.Arch.D); err != nil {
		return err
	}
	addSquares(g.head, g.normed, g.env)
	return nil
}

// matrix gives the sums to the tensors that llama.cpp has.
func (g *inputSquares) matrix(m *llamacpp.Model) *imatrix.Matrix {
	x := &imatrix.Matrix{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		var sums []float64
		if site, ok := t.Use.Site(); ok {
			sums = g.sums[t.Layer][site]
		} else if t.Use == llamacpp.Output {
			sums = g.head
		}
		if sums == nil {
			continue
		}
		e := imatrix.Entry{Tensor: t.Name, Sums: make([]float32, len(sums)), Counts: []float32{float32(g.tokens)}}
		for c, v := range sums {
			e.Sums[c] = float32(v)
		}
		x.Entries = append(x.Entries, e)
	}
	slices.SortFunc(x.Entries, func(a, b imatrix.Entry) int { return strings.Compare(a.Tensor, b.Tensor) })
	return x
}

// add adds the squares of each column of x [rows, cols], where it is.
func (g *inputSquares) add(sum []float64, x device.Buf, rows, cols int) {
	if h := g.m.Dev.Host(x); h != nil {
		addSquares(sum, h[:rows*cols], g.env)
		return
	}
	g.m.Dev.ColumnDots(sum, x, x, rows, cols)
}

// addSquares adds the squares of each column of x [rows, len(sum)], in the order of rows.
func addSquares(sum []float64, x []float32, env Env) {
	const block = 256
	n := len(sum)
	env.Device.For((n+block-1)/block, func(i int) {
		lo, hi := i*block, min((i+1)*block, n)
		for at := 0; at < len(x); at += n {
			for c, v := range x[at+lo : at+hi] {
				sum[lo+c] += float64(float64(v) * float64(v))
			}
		}
	})
}
