package heads

import (
	"context"
	"fmt"
	"math"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// rises returns for each input what the response really loses where every head has its shortest span: the rise of the mean
// nll of the labels, nats per token, at least minRise. First-order losses of several inputs are made comparable by it: they
// tell how a loss lies spread over heads and spans, not how large it becomes once many of them are gone.
func rises(ctx context.Context, m *nn.Model, profile *Profile, rules []manifest.Policy, opt MoAOptions) ([]float64, error) {
	p, err := shortest(m.Arch, rules, opt.Inputs[len(opt.Inputs)-1].Length)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(opt.Inputs))
	for i, in := range opt.Inputs {
		l := &profile.Lengths[i]
		nll, err := responseNLL(ctx, m, p, in, l.labels, opt.Options)
		if err != nil {
			return nil, err
		}
		const minRise = 1e-6 // an input that nothing hurts still ranks its spans
		out[i] = math.Max(minRise, nll-l.NLL)
	}
	return out, nil
}

// shortest is the plan in which every head has the rule that keeps least at a length.
func shortest(m *arch.Model, rules []manifest.Policy, length int) (*manifest.Plan, error) {
	least := 0
	for r := range rules {
		if rules[r].Span(length) < rules[least].Span(length) {
			least = r
		}
	}
	p, plan := Draft(m), &MoAPlan{Rules: rules, Unit: "none", Loss: rowsOf(m.Layers, kvHeads)}
	for _, layer := range m.Layers {
		row := make([]int, kvHeads(layer))
		for g := range row {
			row[g] = least
		}
		plan.Rule = append(plan.Rule, row)
	}
	return p, WriteMoA(p, plan)
}

// responseNLL is the mean nll of labels under a plan, as the mean over samples that have labels of the mean over their rows. The
// response is decoded, what comes before it prefilled.
func responseNLL(ctx context.Context, m *nn.Model, p *manifest.Plan, in ProfileInput, labels [][]int32, opt Options) (float64, error) {
	var windows [][]int32
	var rows []int
	var want [][]int32
	var lengths []int
	for i, s := range in.Samples {
		if labels[i] != nil {
			windows, rows, want, lengths = append(windows, s.IDs), append(rows, s.Rows), append(want, labels[i]), append(lengths, len(s.IDs))
		}
	}
	states, err := nn.NewStates(opt.Dir, lengths, m.Arch.D, opt.MemLimit)
	if err != nil {
		return 0, err
	}
	defer states.Close()
	sum := 0.0
	serve := nn.ServeOptions{Plan: p, Prompt: func(i int) int { return len(windows[i]) - rows[i] + 1 }, States: states}
	_, err = m.Serve(ctx, windows, serve, func(i int, hidden []float32) error {
		nll, err := m.HeadBack(nil, hidden[(len(windows[i])-rows[i])*m.Arch.D:], want[i], profileRows(m))
		sum += nll / float64(rows[i])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("heads: response under the shortest spans: %w", err)
	}
	return sum / float64(len(windows)), nil
}
