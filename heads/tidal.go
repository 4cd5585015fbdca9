package heads

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// TidalOptions says which keys a layer would select and how many layers may. Zero values stand for those in brackets.
type TidalOptions struct {
	Budget     int  // keys of a KV head that a sharing layer attends to, the window's included [256]
	Window     int  // latest of them, always kept [32]
	Rows       int  // last queries of each window that are looked at [64]
	Dense      int  // leading layers that neither select nor share [2]
	Selections int  // layers that select: the first after the dense ones, and corrections [2]
	Mean       bool // maximise the mean recall; else the least, and the mean where that leaves a choice
	Options
}

func (o *TidalOptions) fill() error {
	set(&o.Budget, 256)
	set(&o.Window, 32)
	set(&o.Rows, 64)
	set(&o.Dense, 2)
	set(&o.Selections, 2)
	if o.Window < 1 || o.Budget <= o.Window || o.Budget > 1<<30 || o.Rows < 1 || o.Dense < 1 || o.Selections < 1 {
		return fmt.Errorf("heads: %d selections of %d keys with a window of %d after %d dense layers, from %d rows", o.Selections,
			o.Budget, o.Window, o.Dense, o.Rows)
	}
	return nil
}

// Tidal tells which layers select keys for the layers after them (Yang et al., TidalDecode, arXiv:2410.05076).
type Tidal struct {
	// Recall[s][l] is the attention that layer l pays to the keys that layer s selects, over what it pays to as many of its
	// own choice; the mean over windows, rows and KV heads. KV head g of l uses the selection of KV head g of s, by the
	// attention summed over its query heads. It is 0 where s cannot select for l: s ≥ l, other numbers of KV heads, a sliding
	// window, or a dense layer.
	Recall [][]float64
	// Source is for each layer the one that it takes its keys from, itself where it selects, and −1 where it stays full.
	Source      []int
	Least, Mean float64 // recall of the layers that share; 1 where none does
	Rows        int     // rows of windows looked at
	Windows     int     // windows with such rows
	opt         TidalOptions
}

// FindTidal measures from one forward pass how well each layer's selection serves each later layer and chooses the selecting
// layers by exact search. The first layer after the dense ones always selects, since those before a selection stay full.
// Rows that see no more than Budget keys say nothing and are left out. Memory beyond the forward pass is, for each
// window and layer, 4·Rows·G·(Budget − Window) bytes of selected keys, and 16·T bytes a thread.
func FindTidal(ctx context.Context, m *nn.Model, w calib.Windows, opt TidalOptions) (*Tidal, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if longest := w.Longest(); longest <= opt.Budget {
		return nil, fmt.Errorf("heads: windows of at most %d tokens do not test a selection of %d keys", longest, opt.Budget)
	}
	layers := tidalLayers(m.Arch, opt.Dense)
	if len(layers) == 0 {
		return nil, fmt.Errorf("heads: no layer without a sliding window follows %d dense ones", opt.Dense)
	}
	p := newTidalPass(m.Arch, len(w.IDs), layers, opt)
	if err := opt.observe(ctx, m, w.IDs, p.tap, nil); err != nil {
		return nil, err
	}
	return p.tidal(layers), nil
}

// tidalLayers lists the layers that may select or share: those with attention and without a sliding window, after the
// first dense of them.
func tidalLayers(m *arch.Model, dense int) []int {
	var out []int
	for l, a := range m.Layers {
		if kvHeads(a) > 0 && a.Window == 0 {
			out = append(out, l)
		}
	}
	return out[min(dense, len(out)):]
}

// tidalPass collects recalls. The windows of a layer come in order.
type tidalPass struct {
	opt    TidalOptions
	layers []arch.Layer
	takes  []bool      // per layer: may select or share
	ids    [][][]int32 // [window][layer], selections [row][KV head][Budget−Window]
	recall [][]float64 // [selector][user], sum over windows, rows and KV heads
	rows   []int       // [window]
}

func newTidalPass(m *arch.Model, windows int, layers []int, opt TidalOptions) *tidalPass {
	p := &tidalPass{opt: opt, layers: m.Layers, takes: make([]bool, len(m.Layers)), rows: make([]int, windows)}
	for _, l := range layers {
		p.takes[l] = true
	}
	for range windows {
		p.ids = append(p.ids, make([][]int32, len(m.Layers)))
	}
	for range m.Layers {
		p.recall = append(p.recall, make([]float64, len(m.Layers)))
	}
	return p
}

func (p *tidalPass) tap(layer, window int, r rows) {
	first := max(r.Shape.T-p.opt.Rows, p.opt.Budget)
	n := r.Shape.T - first
	if n <= 0 || !p.takes[layer] {
		return
	}
	p.rows[window] = n
	g, k := r.Shape.G, p.opt.Budget-p.opt.Window
	ids := make([]int32, n*g*k)
	sums := make([][]float64, g) // [KV head][selector]
	for head := range sums {
		sums[head] = make([]float64, layer)
	}
	// some looks at the rows lo to hi-1, of which weigh writes what KV head head pays to each key.
	some := func(lo, hi int, weigh func(dst, row []float64, head, i int)) {
		r.Dev.For(g, func(head int) {
			weights, row := make([]float64, r.Shape.T), make([]float64, r.Shape.T)
			for i := lo; i < hi; i++ {
				at := ((i-first)*g + head) * k
				weigh(weights[:i+1], row, head, i)
				p.row(sums[head], weights[:i+1], ids[at:at:at+k], window, layer, at)
			}
		})
	}
	if d := r.reader(); d != nil {
		r.weightRows(d, first, first+n, func(lo, hi int, a []float32) {
			some(lo, hi, func(dst, _ []float64, head, i int) { r.groupSum(dst, a[(i-lo)*r.Shape.T:], (hi-lo)*r.Shape.T, head) })
		})
	} else {
		r.Read(nn.Queries | nn.Keys | nn.LSE)
		some(first, first+n, r.groupRow)
	}
	p.ids[window][layer] = ids
	for _, s := range sums {
		for selector, v := range s {
			p.recall[selector][layer] += v
		}
	}
}

// groupRow writes Σ_h A[h, i, j] over the query heads of KV head g to dst. row is room for i+1 values.
func (r rows) groupRow(dst, row []float64, g, i int) {
	clear(dst)
	size := r.Shape.H / r.Shape.G
	for h := g * size; h < (g+1)*size; h++ {
		r.row(row[:i+1], h, i)
		for j, a := range row[:i+1] {
			dst[j] += a
		}
	}
}

// groupSum is groupRow of rows of attention, those of the query heads ld values apart.
func (r rows) groupSum(dst []float64, a []float32, ld, g int) {
	clear(dst)
	size := r.Shape.H / r.Shape.G
	for h := g * size; h < (g+1)*size; h++ {
		for j := range dst {
			dst[j] += float64(a[h*ld+j])
		}
	}
}

// row selects keys for one row of a KV head and adds the recall of each earlier layer's selection.
func (p *tidalPass) row(sums, weights []float64, ids []int32, window, layer, at int) {
	cut := len(weights) - p.opt.Window
	k := p.opt.Budget - p.opt.Window
	ids = topKeys(ids, weights[:cut], k)
	near := sum(weights[cut:])
	own := near + sumAt(weights, ids)
	for s := range sums {
		if chosen := p.ids[window][s]; chosen != nil && p.layers[s].G == p.layers[layer].G {
			sums[s] += (near + sumAt(weights, chosen[at:at+k])) / own
		}
	}
}

func sumAt(v []float64, ids []int32) float64 {
	var s float64
	for _, i := range ids {
		s += v[i]
	}
	return s
}

func (p *tidalPass) tidal(layers []int) *Tidal {
	t := &Tidal{Recall: p.recall, Source: make([]int, len(p.layers)), opt: p.opt}
	for _, n := range p.rows {
		t.Rows += n
		if n > 0 {
			t.Windows++
		}
	}
	for _, row := range t.Recall {
		for l := range row {
			if g := kvHeads(p.layers[l]); g > 0 {
				row[l] /= float64(t.Rows * g)
			}
		}
	}
	t.choose(layers)
	return t
}
