package importance

import (
	"fmt"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/num"
	"modelpress/prune"
)

// coupled sums what single weights count for over the units that they come and go with (Ma et al., LLM-Pruner, arXiv:2305.11627,
// section 3.1):
//
//   - an FFN channel: its rows of gate and up, with their biases, and its column of down;
//   - a KV head: its rows of k and v and those of its query heads of q, with their biases, and the columns of these heads of o;
//   - a channel of the stream: its column of the embedding, of the positions and of the output head, which counts once where it is the
//     embedding, its columns of q, k, v, gate and up, its rows of o and down, with their biases, and its value in the gains and biases
//     of all norms over the stream;
//   - a layer: all of its weights, those of the norms of its heads included.
type coupled struct {
	*prune.Scores
	m   *nn.Model
	par num.Par
}

func newCoupled(m *nn.Model) coupled { return coupled{empty(m), m, m.Dev.For} }

// counts writes what elements [at, at+len(dst)) of a tensor count for.
type counts func(dst []float64, at int)

// sumChunks is the largest number of pieces in which a matrix is summed up.
const sumChunks = 64

// sums adds up what the elements of a matrix [out, in] count for by rows and by columns, in float64: rows in the order of their
// columns, columns over pieces of rows that depend on the shape alone, and then over the pieces. Memory is 8*(out + 66*in) bytes, and
// 8*in more a thread.
func (c *coupled) sums(out, in int, f counts) (rows, cols []float64) {
	size := (out + sumChunks - 1) / sumChunks
	n := (out + size - 1) / size
	parts := make([]float64, n*in)
	rows, cols = make([]float64, out), make([]float64, in)
	c.par(n, func(p int) {
		row, part := make([]float64, in), parts[p*in:(p+1)*in]
		for r := p * size; r < min(out, (p+1)*size); r++ {
			f(row, r*in)
			for j, v := range row {
				rows[r] += v
				part[j] += v
			}
		}
	})
	for p := range n {
		for j, v := range parts[p*in : (p+1)*in] {
			cols[j] += v
		}
	}
	return rows, cols
}

// linear counts the weight of a projection.
func (c *coupled) linear(l int, r arch.Role, f counts) {
	a := &c.m.Arch.Layers[l]
	rows, cols := c.sums(a.Linears[r].Out, a.Linears[r].In, f)
	s := &c.Layers[l]
	s.Layer += total(rows)
	switch r {
	case arch.Q, arch.K, arch.V:
		spread(s.Heads, rows)
		add(c.Hidden, cols)
	case arch.O:
		spread(s.Heads, cols)
		add(c.Hidden, rows)
	case arch.Gate, arch.Up:
		add(s.FFN, rows)
		add(c.Hidden, cols)
	case arch.Down:
		add(s.FFN, cols)
		add(c.Hidden, rows)
	}
}

// bias counts the bias of a projection.
func (c *coupled) bias(l int, r arch.Role, f counts) {
	v := make([]float64, c.m.Arch.Layers[l].Linears[r].Out)
	f(v, 0)
	s := &c.Layers[l]
	s.Layer += total(v)
	switch r {
	case arch.Q, arch.K, arch.V:
		spread(s.Heads, v)
	case arch.Gate, arch.Up:
		add(s.FFN, v)
	default:
		add(c.Hidden, v)
	}
}

// gain counts n values of a norm's gain or bias: over the stream, or over heads, whose width no unit goes with. Layer -1 is that of
// the final norm.
func (c *coupled) gain(l, n int, stream bool, f counts) {
	v := make([]float64, n)
	f(v, 0)
	if l >= 0 {
		c.Layers[l].Layer += total(v)
	}
	if stream {
		add(c.Hidden, v)
	}
}

// tableRows is how many rows of a table are read at a time.
const tableRows = 1024

// table counts a tensor [rows, D] of which each column belongs to a channel of the stream. Only the named rows are read, nil for the
// first n; f gets the number of a row among these, and the weights of that and later rows.
func (c *coupled) table(name string, rows []int32, n int, f func(w []float32, row int) counts) error {
	d := c.m.Arch.D
	w := make([]float32, min(n, tableRows)*d)
	for lo := 0; lo < n; lo += tableRows {
		k := min(tableRows, n-lo)
		if rows == nil {
			if err := formats.ReadF32(c.m.Src, name, w[:k*d], int64(lo)*int64(d)); err != nil {
				return fmt.Errorf("importance: %w", err)
			}
		}
		for i := 0; i < k && rows != nil; i++ {
			if err := formats.ReadF32(c.m.Src, name, w[i*d:(i+1)*d], int64(rows[lo+i])*int64(d)); err != nil {
				return fmt.Errorf("importance: %w", err)
			}
		}
		_, cols := c.sums(k, d, f(w[:k*d], lo))
		add(c.Hidden, cols)
	}
	return nil
}

// vector reads n values of a tensor.
func (c *coupled) vector(name string, n int) ([]float32, error) {
	v := make([]float32, n)
	if err := formats.ReadF32(c.m.Src, name, v, 0); err != nil {
		return nil, fmt.Errorf("importance: %w", err)
	}
	return v, nil
}

// each replaces every score by f of it.
func (c *coupled) each(f func(v float64) float64) {
	all := func(v []float64) {
		for i := range v {
			v[i] = f(v[i])
		}
	}
	all(c.Hidden)
	for l := range c.Layers {
		s := &c.Layers[l]
		all(s.Heads)
		all(s.FFN)
		s.Layer = f(s.Layer)
	}
}

func total(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum
}

func add(dst, v []float64) {
	for i, x := range v {
		dst[i] += x
	}
}

// spread adds v to dst, each of which has its equal share of v side by side.
func spread(dst, v []float64) {
	n := len(v) / len(dst)
	for i, x := range v {
		dst[i/n] += x
	}
}
