package heads

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// RazorOptions describes the random-repeat input of RazorAttention (arXiv:2407.15891): a period of random tokens, said
// several times over.
type RazorOptions struct {
	Period  int // distinct random tokens [2500, or less where the model's context is shorter]
	Repeats int // times the period is said, at least 2 [4]
	Samples int // independent draws [1]
	Seed    uint64
	// Tokens are drawn from [Lo, Hi); Hi 0 stands for the vocabulary size. Special tokens go into Exclude.
	Lo, Hi  int32
	Exclude []int32
	BOS     *int32 // put before the first period where the model expects one

	Options
}

// Razor returns two scores per head from a random-repeat input: echo, the attention to earlier occurrences of the
// current token, and induction, the attention to the tokens that followed them. Both are means over the queries from the
// second repeat on. The tokens of a period are drawn without replacement, so that each has exactly one occurrence per
// repeat (the published code draws with replacement and counts only one of several).
func Razor(ctx context.Context, m *nn.Model, opt RazorOptions) (echo, induction *Scores, err error) {
	if err := opt.fill(m); err != nil {
		return nil, nil, err
	}
	windows, start := opt.windows()
	layers := m.Arch.Layers
	echoes, inductions := newTable(layers, len(windows)), newTable(layers, len(windows))
	tap := func(layer, window int, r rows) {
		if d := r.reader(); d != nil {
			repeatMasses(echoes.v[window][layer], inductions.v[window][layer], d, r, start, opt.Period)
			return
		}
		r.Read(nn.Queries | nn.Keys | nn.LSE)
		r.Dev.For(r.Shape.H, func(h int) {
			echoes.v[window][layer][h], inductions.v[window][layer][h] = repeatMass(r, h, start, opt.Period)
		})
	}
	if err := opt.observe(ctx, m, windows, tap, nil); err != nil {
		return nil, nil, err
	}
	e, n := echoes.mean(nil)
	i, _ := inductions.mean(nil)
	return echoes.scores("razor-echo", "attention mass", e, n),
		inductions.scores("razor-induction", "attention mass", i, n), nil
}

// repeatMass returns the mean attention of the queries from the second period on to the earlier occurrences of the
// query's token and to their successors.
func repeatMass(r rows, h, start, period int) (echo, induction float64) {
	n := 0
	for i := start + period; i < r.Shape.T; i++ {
		for j := i - period; j >= start; j -= period {
			echo += r.attention(h, i, j)
			induction += r.attention(h, i, j+1)
		}
		n++
	}
	return echo / float64(n), induction / float64(n)
}

// repeatMasses is repeatMass for all heads, where the device reads attention.
func repeatMasses(echo, induction []float64, d device.AttnReader, r rows, start, period int) {
	var same, next []device.AttnSpan
	for i := start + period; i < r.Shape.T; i++ {
		for j := i - period; j >= start; j -= period {
			same, next = append(same, span(i, j, j+1)), append(next, span(i, j+1, j+2))
		}
	}
	n := float64(r.Shape.T - start - period)
	mass := r.masses(d, append(same, next...), len(same), 2*len(same))
	for h := range echo {
		echo[h], induction[h] = mass[2*h]/n, mass[2*h+1]/n
	}
}

// fill sets what was left out and checks the rest against the model.
func (o *RazorOptions) fill(m *nn.Model) error {
	if o.Repeats == 0 {
		o.Repeats = 4
	}
	if o.Samples == 0 {
		o.Samples = 1
	}
	if o.Hi == 0 {
		o.Hi = int32(m.Arch.V)
	}
	switch {
	case o.Lo < 0 || int(o.Hi) > m.Arch.V || o.Lo >= o.Hi:
		return fmt.Errorf("heads: token range [%d, %d) does not lie in a vocabulary of %d", o.Lo, o.Hi, m.Arch.V)
	case o.BOS != nil && (*o.BOS < 0 || int(*o.BOS) >= m.Arch.V):
		return fmt.Errorf("heads: BOS token %d does not lie in a vocabulary of %d", *o.BOS, m.Arch.V)
	case o.Repeats < 2 || o.Samples < 1 || o.Period < 0:
		return fmt.Errorf("heads: random repeat of period %d, %d repeats, %d samples", o.Period, o.Repeats, o.Samples)
	}
	room := m.Arch.MaxPosition
	if o.BOS != nil {
		room--
	}
	free := len(o.pool())
	if o.Period == 0 {
		o.Period = min(2500, room/o.Repeats, free)
	}
	switch {
	case o.Period > free || free < 2:
		return fmt.Errorf("heads: a period of %d needs as many distinct tokens; the range [%d, %d) has %d",
			o.Period, o.Lo, o.Hi, free)
	case o.Period > room/o.Repeats || o.Period < 2:
		return fmt.Errorf("heads: %d repeats of %d tokens do not fit the model's %d positions", o.Repeats, o.Period,
			m.Arch.MaxPosition)
	}
	return nil
}

// pool returns the tokens to draw from, ascending.
func (o *RazorOptions) pool() []int32 {
	skip := append([]int32(nil), o.Exclude...)
	if o.BOS != nil {
		skip = append(skip, *o.BOS)
	}
	sort.Slice(skip, func(i, j int) bool { return skip[i] < skip[j] })
	var out []int32
	for t := o.Lo; t < o.Hi; t++ {
		at := sort.Search(len(skip), func(i int) bool { return skip[i] >= t })
		if at == len(skip) || skip[at] != t {
			out = append(out, t)
		}
	}
	return out
}

// windows draws the inputs. start is the position of the first repeated token.
func (o *RazorOptions) windows() (windows [][]int32, start int) {
	rng := rand.New(rand.NewPCG(o.Seed, 0x52617a6f72)) // the second word keeps this stream apart from others of the seed
	for range o.Samples {
		var w []int32
		if o.BOS != nil {
			w = append(w, *o.BOS)
		}
		start = len(w)
		period := o.pool()
		for i := range o.Period { // the first Period steps of a Fisher-Yates shuffle
			j := i + rng.IntN(len(period)-i)
			period[i], period[j] = period[j], period[i]
		}
		for range o.Repeats {
			w = append(w, period[:o.Period]...)
		}
		windows = append(windows, w)
	}
	return windows, start
}
