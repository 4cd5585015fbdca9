package importance

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/nn"
)

// Loss says what a smaller model is judged by.
type Loss string

// The losses of [Search], both in nats per token and the smaller the better.
const (
	KL           Loss = "kl" // of the source's predictions from the smaller model's, KL(source ‖ small)
	CrossEntropy Loss = "ce" // of the tokens that follow
)

func (l Loss) check() (Loss, error) {
	switch l {
	case "":
		return KL, nil
	case KL, CrossEntropy:
		return l, nil
	}
	return "", fmt.Errorf("importance: loss %.40q is neither %q nor %q", string(l), KL, CrossEntropy)
}

// judge takes losses of models that are made from one source.
type judge struct {
	Options
	loss   Loss
	source *nn.Model
	w      calib.Windows
	kept   *nn.States // final states of the source, for KL
	kl     []float64
}

// newJudge runs the source once where it is needed: 4*D bytes are kept for each token of all windows, past the limit on disk.
func newJudge(ctx context.Context, m *nn.Model, w calib.Windows, loss Loss, o Options) (*judge, error) {
	j := &judge{Options: o, loss: loss, source: m, w: w}
	if loss == CrossEntropy {
		return j, nil
	}
	var err error
	if j.kept, err = nn.NewStates(o.Dir, lengthsOf(w.IDs), m.Arch.D, o.MemLimit); err != nil {
		return nil, err
	}
	if err := j.run(ctx, m, func(i int, h []float32) error { return j.kept.Put(i, h) }); err != nil {
		return nil, j.close(err)
	}
	return j, nil
}

// close gives the states back, keeping err.
func (j *judge) close(err error) error {
	if j.kept == nil {
		return err
	}
	return errors.Join(err, j.kept.Close())
}

// run feeds the windows through a model and shows their final states.
func (j *judge) run(ctx context.Context, m *nn.Model, each func(i int, h []float32) error) error {
	states, err := nn.NewStates(j.Dir, lengthsOf(j.w.IDs), m.Arch.D, j.MemLimit)
	if err != nil {
		return err
	}
	return errors.Join(m.Run(ctx, j.w.IDs, nn.RunOptions{States: states}, each), states.Close())
}

// of returns the mean loss of a model over all tokens that are predicted.
func (j *judge) of(ctx context.Context, m *nn.Model) (float64, error) {
	sum, tokens := 0.0, 0
	err := j.run(ctx, m, func(i int, h []float32) error {
		v, err := j.window(m, i, h)
		if err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		sum += v
		tokens += len(j.w.IDs[i]) - 1
		return nil
	})
	return sum / float64(tokens), err
}

// window returns the sum over the predictions of a window.
func (j *judge) window(m *nn.Model, i int, h []float32) (float64, error) {
	targets := j.w.IDs[i][1:]
	if j.loss == CrossEntropy {
		return m.HeadBack(nil, h, targets, headRows(m))
	}
	source, err := j.kept.View(i)
	if err != nil {
		return 0, err
	}
	sum, d := 0.0, j.source.Arch.D
	err = m.HeadLogits(h, len(targets), headRows(m), func(row0 int, l *nn.Logits) error {
		if len(j.kl) < l.Rows {
			j.kl = make([]float64, l.Rows)
		}
		err := j.source.HeadLogits(source[row0*d:(row0+l.Rows)*d], l.Rows, l.Rows, func(_ int, of *nn.Logits) error {
			l.Divergences(j.kl, of)
			return nil
		})
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		for _, x := range j.kl[:l.Rows] {
			sum += x
		}
		return nil
	})
	if err == nil && (math.IsNaN(sum) || math.IsInf(sum, 0)) {
		err = calib.ErrNotFinite
	}
	return sum, err
}
