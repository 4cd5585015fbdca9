package heads

import (
	"context"
	"fmt"
	"math"
	"slices"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// ProfileSample is one window whose last rows are the response: each predicts a label.
type ProfileSample struct {
	IDs  []int32
	Rows int // label rows, the last ones
	// Answer holds the labels that the dense model must give for the sample to count, [Rows]; nil for whatever it gives. Its
	// loss is then the log-odds of the labels, and the cross entropy without.
	Answer []int32
}

// PromptSamples makes a sample of each prompt, teacher-forced, that counts where the model's own answer is the right one.
func PromptSamples(prompts []calib.Prompt) ([]ProfileSample, error) {
	windows, err := teacherForced(prompts)
	if err != nil {
		return nil, err
	}
	out := make([]ProfileSample, len(prompts))
	for i, p := range prompts {
		out[i] = ProfileSample{IDs: windows[i], Rows: len(p.Answer), Answer: p.Answer}
	}
	return out, nil
}

// WindowSamples makes a sample of each window of text, whose last rows are the response.
func WindowSamples(windows [][]int32, rows int) []ProfileSample {
	out := make([]ProfileSample, len(windows))
	for i, w := range windows {
		out[i] = ProfileSample{IDs: w, Rows: rows}
	}
	return out
}

// ProfileInput is what the model is to see at one length.
type ProfileInput struct {
	Length  int // no sample is longer
	Samples []ProfileSample
}

// ProfileOptions describes an influence profile.
type ProfileOptions struct {
	Width int // of a band, in positions [64, the published one]
	Sink  int // first positions that every rule keeps, in no band; 64 in the published profile
	Options
}

// Profile tells, for several lengths, what the loss pays for each band of keys that a KV head does not see.
type Profile struct {
	Width, Sink int
	Lengths     []LengthProfile // in the order of the inputs
}

// LengthProfile is the profile of one length. Rows are [layer][KV head][band], sums over the query heads of the KV head and
// means over the samples that count; band b is the keys at distances [Width*b, Width*(b+1)) that are no sinks.
type LengthProfile struct {
	Length, Width int
	Samples       int     // that count
	NLL           float64 // mean cross entropy of the labels, nats per token
	Influence     [][][]float64
	Drop, DropAbs [][][]float64 // of keeping the bands before b, signed and in magnitudes by query; entry 0 is 0

	labels [][]int32 // of the samples, nil for those that do not count
}

// Span is the number of bands that a window of span positions stands for: whole bands, at least one.
func (p *LengthProfile) Span(span int) int { return max(1, (span+p.Width-1)/p.Width) }

// Additive is the loss by which the published profile judges a window of span positions beside the sinks: the influences
// of all keys beyond it added up, as if taking one away did not raise the others (MoA, Fu et al., arXiv:2406.14909, section 4).
func (p *LengthProfile) Additive(layer, head, span int) float64 {
	row := p.Influence[layer][head]
	return sum(row[min(p.Span(span), len(row)):])
}

// Joint is the change of the loss where all keys beyond the window are taken away together and the rest of the attention is
// renormalized, to first order in the output of attention: exact for the attention, which Additive is not. Magnitudes are
// added up over queries and query heads.
func (p *LengthProfile) Joint(layer, head, span int) float64 {
	row := p.DropAbs[layer][head]
	if b := p.Span(span); b < len(row) {
		return row[b]
	}
	return 0
}

// Scores gives every KV head's loss under a window of span positions, by both forms.
func (p *LengthProfile) Scores(span int) (additive, joint *Scores) {
	form := func(method string, loss func(l, g, span int) float64) *Scores {
		s := &Scores{Method: method, Unit: "rise of answer nll", KV: make([][]float64, len(p.Influence)), Samples: p.Samples}
		for l, row := range p.Influence {
			s.KV[l] = make([]float64, len(row))
			for g := range row {
				s.KV[l][g] = loss(l, g, span)
			}
		}
		return s
	}
	return form("moa-additive", p.Additive), form("moa-joint", p.Joint)
}

// MoAProfile measures at each length the influence of distant keys on the response (MoA, arXiv:2406.14909): the loss is the
// mean cross entropy of the labels of a sample, and these are the dense model's own arg-max tokens, as a response of its own
// making tells best what it looks back for. Samples with an Answer that the model does not give do not count; it is an error
// where none of a length does. One forward and one backward pass per length, blocks streaming, serve all samples.
//
// The cross entropy of an answer that the model is sure of is flat, -log p with slope 1-p: a head on which such an answer
// rests looks idle. The loss of a sample with an Answer is therefore -log(p/(1-p)), whose slope is 1/(1-p) times that; 1-p counts as at
// least minDoubt.
//
// Memory is that of [nn.Model.Back] for the samples of one length, 4*(D + V) bytes for some rows of logits, and 24 bytes for
// each band of each query head: linear in the length.
func MoAProfile(ctx context.Context, m *nn.Model, inputs []ProfileInput, opt ProfileOptions) (*Profile, error) {
	if opt.Width == 0 {
		opt.Width = device.BandKeys
	}
	if opt.Width < 1 || opt.Sink < 0 || len(inputs) == 0 {
		return nil, fmt.Errorf("heads: profile of %d lengths, bands of %d keys, %d sinks", len(inputs), opt.Width, opt.Sink)
	}
	out := &Profile{Width: opt.Width, Sink: opt.Sink}
	var all []*profiler
	for _, in := range inputs {
		p, err := newProfiler(m, in, opt)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for i, p := range all {
		o := nn.BackOptions{Dir: opt.Dir, MemLimit: opt.MemLimit, Tap: p.tap}
		if opt.Progress != nil {
			o.Progress = func(done, total int) { opt.Progress(i*total+done, len(all)*total) }
		}
		if err := m.Back(ctx, p.windows, o, p.loss); err != nil {
			return nil, err
		}
		r, err := p.result()
		if err != nil {
			return nil, err
		}
		out.Lengths = append(out.Lengths, *r)
	}
	return out, nil
}

// profiler collects the profile of one length.
type profiler struct {
	m       *nn.Model
	in      ProfileInput
	opt     ProfileOptions
	windows [][]int32
	counts  []bool // of the samples
	nll     float64
	out     LengthProfile
}

func newProfiler(m *nn.Model, in ProfileInput, opt ProfileOptions) (*profiler, error) {
	if in.Length < 1 || len(in.Samples) == 0 {
		return nil, fmt.Errorf("heads: %d samples of length %d", len(in.Samples), in.Length)
	}
	p := &profiler{m: m, in: in, opt: opt, counts: make([]bool, len(in.Samples)), out: LengthProfile{Length: in.Length, Width: opt.Width, labels: make([][]int32, len(in.Samples))}}
	for i, s := range in.Samples {
		if s.Rows < 1 || s.Rows > len(s.IDs) || len(s.IDs) > in.Length || s.Answer != nil && len(s.Answer) != s.Rows {
			return nil, fmt.Errorf("heads: sample %d of length %d: %d ids, %d label rows, %d answers", i, in.Length, len(s.IDs), s.Rows, len(s.Answer))
		}
		p.windows = append(p.windows, s.IDs)
	}
	bands := device.AttnBands(in.Length, opt.Width)
	for _, rows := range []*[][][]float64{&p.out.Influence, &p.out.Drop, &p.out.DropAbs} {
		for _, l := range m.Arch.Layers {
			layer := make([][]float64, kvHeads(l))
			for g := range layer {
				layer[g] = make([]float64, bands)
			}
			*rows = append(*rows, layer)
		}
	}
	return p, nil
}

// minDoubt bounds what the slope of a sure answer is magnified by, since 1-p of float32 probabilities is no more exact.
const minDoubt = 1e-4

// profileRows bounds the rows of logits that are held at a time (16 MiB as f32).
func profileRows(m *nn.Model) int { return min(max((4<<20)/m.Arch.V, 1), 256) }

// loss writes the gradient of a sample's mean cross entropy by its final states.
func (p *profiler) loss(i int, hidden, grad []float32) error {
	s, d := p.in.Samples[i], p.m.Arch.D
	from := (len(s.IDs) - s.Rows) * d
	labels, doubt := make([]int32, s.Rows), make([]float64, s.Rows)
	err := p.m.HeadLogits(hidden[from:], s.Rows, profileRows(p.m), func(row0 int, l *nn.Logits) error {
		l.Scores(doubt[row0:], labels[row0:], nil)
		return nil
	})
	for r, nll := range doubt {
		doubt[r] = -math.Expm1(-nll)
	}
	if err != nil || s.Answer != nil && !slices.Equal(labels, s.Answer) {
		return err
	}
	nll, err := p.m.HeadBack(grad[from:], hidden[from:], labels, profileRows(p.m))
	if err != nil {
		return fmt.Errorf("heads: sample %d: %w", i, err)
	}
	for r := range s.Rows {
		scale := 1 / float64(s.Rows)
		if s.Answer != nil {
			scale /= math.Max(doubt[r], minDoubt)
		}
		num.Scale(grad[from+r*d:][:d], float32(scale))
	}
	p.counts[i], p.out.labels[i] = true, labels
	p.out.Samples++
	p.nll += nll / float64(s.Rows)
	return nil
}

// tap adds one layer's bands of one sample.
func (p *profiler) tap(layer, i int, g *nn.AttnGradState) error {
	if !p.counts[i] {
		return nil
	}
	s := g.Shape
	n := device.AttnBands(s.T, p.opt.Width)
	st := &device.AttnStats{Width: p.opt.Width, Sink: p.opt.Sink,
		Influence: make([]float64, s.H*n), Drop: make([]float64, s.H*n), DropAbs: make([]float64, s.H*n)}
	g.Dev.AttnStatistics(st, g.DevQ, g.DevK, g.DevV, g.DevOut, g.DevDOut, g.DevLSE, s, g.Masks)
	for h := range s.H {
		kv := h / (s.H / s.G)
		addTo(p.out.Influence[layer][kv], st.Influence[h*n:(h+1)*n])
		addTo(p.out.Drop[layer][kv], st.Drop[h*n:(h+1)*n])
		addTo(p.out.DropAbs[layer][kv], st.DropAbs[h*n:(h+1)*n])
	}
	return nil
}

func addTo(dst, src []float64) {
	for i, v := range src {
		dst[i] += v
	}
}

// result turns sums into means.
func (p *profiler) result() (*LengthProfile, error) {
	if p.out.Samples == 0 {
		return nil, fmt.Errorf("heads: the model answers none of %d samples of length %d, so they say nothing about its heads",
			len(p.in.Samples), p.in.Length)
	}
	n := float64(p.out.Samples)
	p.out.NLL = p.nll / n
	for _, rows := range [][][][]float64{p.out.Influence, p.out.Drop, p.out.DropAbs} {
		for _, layer := range rows {
			for _, row := range layer {
				for b := range row {
					row[b] /= n
				}
			}
		}
	}
	return &p.out, nil
}
