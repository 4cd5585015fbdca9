package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/prune"
)

// redecide replaces the decision of a step of a plan.
func (b *bench) redecide(p *planfile.Plan, step int, decision any) {
	b.t.Helper()
	raw, err := json.Marshal(decision)
	b.check(err)
	p.Steps[step].Decision = raw
}

// scaled gives the units that stay scales like those that masks learn; the stream too where wanted.
func scaled(c *prune.Cut, stream bool, d int) {
	rnd := rand.New(rand.NewPCG(4, 4))
	some := func(u *prune.Units) {
		for range u.Keep {
			u.Scale = append(u.Scale, (0.5+rnd.Float32())*float32(1-2*rnd.IntN(2)))
		}
	}
	if stream {
		some(&c.Hidden)
		if c.Hidden.Keep == nil {
			for range d {
				c.Hidden.Scale = append(c.Hidden.Scale, 0.5+rnd.Float32())
			}
		}
	}
	for l := range c.Layers {
		if cl := &c.Layers[l]; !cl.Drop {
			cl.Scale = []float32{0, 0.75, -1.5}[l%3]
			some(&cl.Heads)
			some(&cl.FFN)
		}
	}
}

// TestPruneScales: scales that masks have learnt are absorbed into the weights that are written, and what they do not touch keeps its bytes.
func TestPruneScales(t *testing.T) {
	for _, c := range []struct {
		model, section string
		layers         int
		store          formats.DType
		stream         bool
		most           float64 // of what storing scaled weights in the source's type costs
	}{
		{"llama-gqa", "method: random, params: 0.7, multiple: 4", 3, formats.F32, true, 1e-5},
		{"llama-mqa-tied", "method: random, params: 0.7, multiple: 4", 3, formats.F32, true, 1e-5},
		{"llama-bias", "method: random, params: 0.66, axes: [hidden, heads, ffn, layers], multiple: 4", 4, formats.F32, true, 1e-5},
		{"llama-bias", "method: random, params: 0.7, layout: compact, multiple: 4", 3, formats.BF16, false, 0.1},
		{"qwen3-tied", "method: random, params: 0.7, multiple: 4", 3, formats.F16, true, 0.05},
		{"gpt2", "method: random, params: 0.66, layout: compact, axes: [ffn, layers], multiple: 4", 3, formats.F32, true, 1e-5},
		{"gpt2", "method: random, params: 0.604, multiple: 4", 2, formats.F32, true, 1e-5},
	} {
		t.Run(c.model+"/"+c.section, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, deep(c.model, c.layers, c.store), pruneRecipe(c.section))
			b.anywhere = true
			p, err := b.plan()
			b.check(err)
			d := &pruneDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, d))
			s := b.open(b.src)
			scaled(d.Cut, c.stream, s.arch.D)
			b.redecide(p, 0, d)
			o := b.options(p, "out")
			_, err = Apply(context.Background(), o)
			b.check(err)
			checkSizes(t, p, o.Out)
			masked, stock, r := b.masked(b.src, d.Cut), b.stock(o.Out), b.open(filepath.Clean(o.Out))
			ids := []int32{5, 9, 200, 3, 17, 8, 8, 101, 44, 2}
			want := b.logits64(masked, ids)
			if e := farthest(t, b.logits64(stock, ids), want); !(e <= c.most) {
				t.Errorf("logits of the result and of the source with masks differ by %.3g", e)
			}
			fast, err := r.model(testEnv().Device).Logits(ids)
			b.check(err)
			if e := farthest(t, fast, b.logits64(stock, ids)); !(e <= 1e-4) {
				t.Errorf("logits of the forward pass and of the reference differ by %.3g", e)
			}
			changes, err := prune.Changed(s.ck, s.arch, d.Cut)
			b.check(err)
			scaled := map[string]bool{}
			for _, ch := range changes {
				scaled[ch.To] = ch.Scaled
			}
			copied := slicesOf(t, s, r, d.Cut)
			same := 0
			for _, info := range r.ck.Tensors() {
				if info.DType != c.store {
					t.Errorf("%s is stored as %s", info.Name, info.DType)
				}
				equal := bytes.Equal(copied[info.Name], tensorBytes(t, r.ck, info))
				if equal == scaled[info.Name] {
					t.Errorf("%s: scaled %t, the source's bytes %t", info.Name, scaled[info.Name], equal)
				}
				if equal {
					same++
				}
			}
			if same == 0 || same == len(copied) {
				t.Errorf("%d of %d tensors have the source's bytes", same, len(copied))
			}
		})
	}
}
