package heads

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"

	"modelpress/internal/nn"
)

// AdamW's constants (Loshchilov and Hutter, arXiv:1711.05101), without decay.
const (
	adamB1  = 0.9
	adamB2  = 0.999
	adamEps = 1e-8
)

// prompt returns which prompt step s draws: all of them once, in an order of the seed's, then again in another.
func (d *duo) prompt(s int) int {
	n := len(d.prompts)
	rng := rand.New(rand.NewPCG(d.opt.Seed, 0x64756f00+uint64(s/n))) // a stream for each round
	return rng.Perm(n)[s%n]
}

// train takes steps until there are enough, or the choice is settled, or ctx ends.
func (d *duo) train(ctx context.Context) error {
	saved := d.step
	for d.step < d.opt.Steps && !d.settled() {
		loss, slopes, err := d.slopes(ctx, d.prompt(d.step))
		if err != nil {
			if ctx.Err() != nil && d.step > saved {
				err = errors.Join(err, d.save())
			}
			return err
		}
		d.update(slopes)
		d.loss += loss
		if d.step++; d.step%d.opt.Every == 0 {
			d.stability()
		}
		if d.step%d.opt.SaveEvery == 0 {
			if err := d.save(); err != nil {
				return err
			}
			saved = d.step
		}
		if d.opt.Progress != nil {
			d.opt.Progress(d.step, d.opt.Steps)
		}
	}
	if d.step > saved {
		return d.save()
	}
	return nil
}

func (d *duo) save() error {
	if d.opt.Save == nil {
		return nil
	}
	return d.opt.Save(d.encode())
}

// rate is the learning rate of step s.
func (d *duo) rate(s int) float64 {
	n, fifth := float64(d.opt.Steps), float64(d.opt.Steps)/5
	up, down := math.Max((float64(s)+1)/fifth, 0.1), math.Max((n-float64(s))/fifth, 0.1)
	return d.opt.LR * math.Min(1, math.Min(up, down))
}

// update moves the gates by AdamW and clamps them; slopes are those of the distillation loss.
func (d *duo) update(slopes []float64) {
	t := float64(d.step + 1)
	fix1, fix2, lr := 1-math.Pow(adamB1, t), 1-math.Pow(adamB2, t), d.rate(d.step)
	for i, g := range slopes {
		if d.alpha[i] > 0 {
			g += d.opt.Reg / float64(len(slopes))
		}
		d.m1[i] = float64(adamB1*d.m1[i]) + float64((1-adamB1)*g)
		d.m2[i] = float64(adamB2*d.m2[i]) + float64((1-adamB2)*g*g)
		move := lr * (d.m1[i] / fix1) / (math.Sqrt(d.m2[i]/fix2) + adamEps)
		d.alpha[i] = math.Min(1, math.Max(0, d.alpha[i]-move))
		d.sum[i] += d.alpha[i]
	}
}

// slopes returns the distillation loss of a prompt under the present gates and its gradient by them.
func (d *duo) slopes(ctx context.Context, prompt int) (loss float64, slopes []float64, err error) {
	mixes := d.mixes()
	slopes = make([]float64, len(d.alpha))
	opt := nn.BackOptions{Dir: d.opt.Dir, MemLimit: d.opt.MemLimit,
		Mix: func(l int) *nn.Mix { return mixes[l] },
		Tap: func(l, _ int, g *nn.AttnGradState) error {
			copy(slopes[d.first[l]:d.first[l+1]], g.DAlpha)
			return nil
		}}
	err = d.m.Back(ctx, d.windows[prompt:prompt+1], opt, func(_ int, hidden, grad []float32) error {
		loss, err = d.distill(prompt, hidden, grad)
		return err
	})
	return loss, slopes, err
}

func (d *duo) mixes() []*nn.Mix {
	mixes := make([]*nn.Mix, len(d.masks))
	for l, masks := range d.masks {
		if masks == nil {
			continue
		}
		mixes[l] = &nn.Mix{Masks: masks, Alpha: make([]float32, len(masks))}
		for g := range masks {
			mixes[l].Alpha[g] = float32(d.alpha[d.first[l]+g])
		}
	}
	return mixes
}

// distill returns the distance of the label rows to the dense ones after the final norm, and writes its gradient.
func (d *duo) distill(prompt int, hidden, grad []float32) (float64, error) {
	width := d.m.Arch.D
	lo, hi := d.labels(prompt)
	n := (hi - lo) * width
	dense, rows := d.normed[:n], d.normed[len(d.normed)/2:][:n]
	if err := d.teacher.Get(prompt, dense); err != nil {
		return 0, err
	}
	if err := d.m.FinalNorm(rows, hidden[lo*width:hi*width], hi-lo); err != nil {
		return 0, err
	}
	loss := 0.0
	g := grad[lo*width : hi*width]
	for i, v := range rows {
		diff := float64(v) - float64(dense[i])
		loss += float64(diff * diff)
		g[i] = float32(2 * diff / float64(n))
	}
	return loss / float64(n), d.m.FinalNormBack(g, hidden[lo*width:hi*width], hi-lo)
}
