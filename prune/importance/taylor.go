package importance

import (
	"context"
	"math"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// TaylorOptions refine [Taylor].
type TaylorOptions struct {
	Options
	Term Term // "" for Mix
}

// Taylor scores units by how much the loss would change, by a series around the weights, if all weights were 0 that come and go with
// them (Ma et al., LLM-Pruner, arXiv:2305.11627, section 3.2, equations 3 to 5; which weights is said at the type coupled, and there is a
// [Term] for each way of its code). The loss is the cross entropy of the next token. As in that code, the first-order gradient is that of
// the mean over all windows, and squares are those of the gradients of single windows. A tied embedding is one parameter, whose
// gradient has both parts. Rows of the embedding of which no window has the token have no gradient and count for nothing.
// LLM-Pruner leaves the first and the last layers alone; that is for the caller.
//
// The model runs as in [nn.Model.Back], with one layer's gradients at a time. Beside what that holds, memory is, for the largest
// layer of P parameters, 4*P bytes of gradients on the device, 4*P on the host (8*P for Mix and Second), its block once more
// when the layer is done and 4 bytes for each weight of its largest projection. While losses are taken, gradients by the output head are
// held: 4*V*D bytes on the device and 4*V*D (8*V*D) on the host, these on to the end where the head is tied, with 4*D bytes for each
// token of all windows, at most, past the limit on disk. The embedding needs 4*D (8*D) bytes for each different token of the windows.
// Sums take 8 bytes for 66 rows of the widest matrix and 2 more a thread.
func Taylor(ctx context.Context, m *nn.Model, w calib.Windows, opt TaylorOptions) (*prune.Scores, error) {
	term, err := opt.Term.check()
	if err != nil {
		return nil, err
	}
	if err := checkWindows(w, 2); err != nil {
		return nil, err
	}
	t := &taylor{coupled: newCoupled(m), Options: opt.Options, w: w, term: term}
	for _, ids := range w.IDs {
		t.predicted += len(ids) - 1
	}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	if term == Vector {
		t.each(math.Abs)
	}
	if err := finite(t.Scores); err != nil {
		return nil, err
	}
	return t.Scores, nil
}

// taylor is one call of Taylor.
type taylor struct {
	coupled
	Options
	w         calib.Windows
	term      Term
	predicted int // tokens of all windows that are predicted

	grads  *nn.BlockGrads // of the layer on its way back
	params []*param
	head   outputHead
	input  tokenGrads
	places moments // of learned positions
}

func (t *taylor) run(ctx context.Context) error {
	defer t.free()
	if err := t.begin(); err != nil {
		return t.closeInput(err)
	}
	return t.closeInput(t.m.Back(ctx, t.w.IDs, nn.BackOptions{
		Dir: t.Dir, MemLimit: t.MemLimit, Progress: t.Progress,
		Grads:      func(int) *nn.BlockGrads { return t.grads },
		At:         func(l int) bool { return l == 0 },
		Grad:       func(_, window int, g []float32) error { return t.embedded(window, g) },
		WindowDone: t.window,
		LayerDone:  t.layerDone,
	}, t.loss))
}

func (t *taylor) begin() error {
	a := t.m.Arch
	if err := t.beginHead(); err != nil {
		return err
	}
	if a.PosEmbed != "" {
		t.places = newMoments(t.w.Longest()*a.D, t.term.squares())
	}
	return t.beginInput()
}

func (t *taylor) free() {
	if t.grads != nil {
		t.grads.Free()
	}
	t.freeHead()
}

// root is the factor of a window's gradients whose squares are summed: gradients are of the mean over all tokens, and squares are to
// be those of the mean over its own, and of these the mean over windows is taken.
func (t *taylor) root(window int) float32 {
	return float32(float64(t.predicted) / float64(len(t.w.IDs[window])-1) / math.Sqrt(float64(len(t.w.IDs))))
}

// layer makes room for the gradients of a layer.
func (t *taylor) layer(l int) (err error) {
	if t.grads, err = t.m.NewBlockGrads(l); err != nil {
		return err
	}
	t.params = t.coupled.params(l, t.grads)
	for _, p := range t.params {
		p.sums = newMoments(p.grad.Len(), t.term.squares())
	}
	return nil
}

// window is called when the gradients of a window have passed a layer.
func (t *taylor) window(_, window int) error {
	if t.term.squares() {
		t.collect(t.root(window))
		t.grads.Zero()
	}
	return nil
}

// embedded takes the gradient g by the embedded tokens of a window.
func (t *taylor) embedded(window int, g []float32) error {
	if len(t.places.sum) > 0 {
		part := moments{sum: t.places.sum[:len(g)]}
		if t.term.squares() {
			part.square = t.places.square[:len(g)]
		}
		part.add(g, t.root(window))
	}
	return t.addInput(window, g)
}

// collect adds up the gradients of a layer on the host.
func (t *taylor) collect(root float32) {
	for _, p := range t.params {
		p.sums.collect(t.m.Dev, p.grad, root)
	}
}

// layerDone scores a layer and makes room for the one before it.
func (t *taylor) layerDone(l int) error {
	if l < 0 {
		return t.countInput()
	}
	if !t.term.squares() {
		t.collect(0)
	}
	t.grads.Free()
	t.grads = nil
	b, err := t.m.LoadBlock(l)
	if err != nil {
		return err
	}
	err = countAll(t.params, b, t.counted)
	b.Free()
	t.params = nil
	if err != nil || l == 0 {
		return err
	}
	return t.layer(l - 1)
}

func (t *taylor) counted(w []float32, s *moments) counts { return t.term.counts(w, s, 0) }
