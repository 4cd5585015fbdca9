package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"modelpress/internal/nn"
	"modelpress/prune"
	"modelpress/prune/importance"
)

// cut chooses the units that stay by what units are worth.
func (j *pruneJob) cut(ctx context.Context) (*prune.Cut, []string, error) {
	m := j.env.model(j.s)
	defer m.Release()
	scores, err := j.score(ctx, m, "measuring units")
	if err != nil {
		return nil, nil, err
	}
	if j.r.Prune.Layout == layoutCompact {
		return j.uneven(scores)
	}
	return j.even(ctx, m, scores)
}

// options say how the model is run for a measure.
func (j *pruneJob) options(name string) (importance.Options, func()) {
	tick, stop := counter(j.env.Progress, name)
	return importance.Options{Dir: j.env.Scratch, MemLimit: j.env.stateLimit(), Progress: tick}, stop
}

// score measures the units of a model.
func (j *pruneJob) score(ctx context.Context, m *nn.Model, name string) (*prune.Scores, error) {
	opt, stop := j.options(name)
	defer stop()
	r := j.r.Prune
	return importance.Score(ctx, m, j.set.set.Calib, importance.Config{Options: opt, Method: importance.Method(r.Method), Depth: r.depth(),
		Batch: importance.Aggregation(r.Aggregate), Sequence: importance.Mean, Seed: j.r.Seed})
}

// judge compares shapes that meet the target, cut by scores, on calibration data, the best first.
func (j *pruneJob) judge(ctx context.Context, m *nn.Model, scores *prune.Scores) ([]importance.Judged, []string, error) {
	r := j.r.Prune
	shapes, err := prune.Shapes(m.Arch, r.goal(), r.rules(), prune.Wish{})
	if err != nil {
		return nil, nil, err
	}
	opt, stop := j.options("comparing shapes")
	defer stop()
	judged, err := importance.Search(ctx, m, j.set.set.Calib, shapes, scores, importance.SearchOptions{Options: opt, Most: r.Candidates})
	if err != nil {
		return nil, nil, err
	}
	var notes []string
	for _, c := range judged {
		notes = append(notes, fmt.Sprintf("width %d, %d KV heads, %d FFN channels, %d layers: KL %s on calibration data", c.Shape.D, c.Shape.G, c.Shape.F, c.Shape.Layers, number(c.Loss)))
	}
	return judged, notes, nil
}

// bestCut is the best cut, nil where there is none.
func bestCut(judged []importance.Judged) *prune.Cut {
	if len(judged) == 0 {
		return nil
	}
	return judged[0].Cut
}

// uneven cuts every layer to a size of its own: even shares that are changed, where least is lost, until the target is met.
func (j *pruneJob) uneven(scores *prune.Scores) (*prune.Cut, []string, error) {
	r, m := j.r.Prune, j.s.arch
	want, err := prune.EvenLayers(m, r.goal(), r.rules())
	if err != nil {
		return nil, nil, err
	}
	wholeLayers(&want, scores)
	counts, err := prune.FitLayers(m, r.goal(), r.rules(), want, scores)
	if err != nil {
		return nil, nil, err
	}
	cut, err := prune.CutOf(m, counts, scores)
	return cut, nil, err
}

// wholeLayers rounds layers that stay in part, as they do where only the depth may change: those with the best scores stay, of equals the
// first.
func wholeLayers(want *prune.Expected, scores *prune.Scores) {
	sum := 0.0
	rank := make([]int, len(want.Layers))
	for l := range want.Layers {
		sum += want.Layers[l].Layer
		rank[l] = l
	}
	slices.SortStableFunc(rank, func(a, b int) int { return cmp.Compare(scores.Layers[b].Layer, scores.Layers[a].Layer) })
	for i, l := range rank {
		want.Layers[l].Layer = 0
		if float64(i) < math.Round(sum) {
			want.Layers[l].Layer = 1
		}
	}
}

// even cuts all layers to one shape: of those that meet the target, the one that loses least on calibration data, in as many rounds
// as the recipe says.
func (j *pruneJob) even(ctx context.Context, m *nn.Model, scores *prune.Scores) (*prune.Cut, []string, error) {
	r := j.r.Prune
	judged, notes, err := j.judge(ctx, m, scores)
	if err != nil || r.Rounds == 1 {
		return bestCut(judged), notes, err
	}
	cut, err := importance.Rounds(ctx, m, judged[0].Shape, r.Rounds, func(ctx context.Context, round int, v *nn.Model) (*prune.Scores, error) {
		return j.score(ctx, v, fmt.Sprintf("measuring units, round %d of %d", round+1, r.Rounds))
	})
	return cut, notes, err
}
