package heads

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

func open(t *testing.T, m *testmodel.Model) *nn.Model {
	t.Helper()
	a, err := arch.Describe(m.Config, m)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(cpu.New(2), m, a)
}

func allFull(m *nn.Model, value bool) [][]bool {
	full := make([][]bool, len(m.Arch.Layers))
	for l, layer := range m.Arch.Layers {
		full[l] = make([]bool, kvHeads(layer))
		for g := range full[l] {
			full[l][g] = value
		}
	}
	return full
}

func finalStates(t *testing.T, m *nn.Model, ids []int32, masks func(int) []device.Mask) []float32 {
	t.Helper()
	var out []float32
	err := m.Run(context.Background(), [][]int32{ids}, nn.RunOptions{Masks: masks}, func(_ int, h []float32) error {
		out = append(out, h...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEverythingFullIsTheDenseModel: share 1 leaves every family byte for byte as it was, and so does a window that hides
// nothing.
func TestEverythingFullIsTheDenseModel(t *testing.T) {
	for _, c := range testmodel.Cases() {
		m := open(t, testmodel.New(c.Options))
		ids := testmodel.Windows(1, 40, m.Arch.V, 1)[0]
		dense := finalStates(t, m, ids, nil)
		scores := rowsOf(m.Arch.Layers, kvHeads)
		full := Select(scores, 1)
		for name, masks := range map[string]func(int) []device.Mask{
			"share 1":      Masks(full.Full, 4, 8, m.Arch),
			"long windows": Masks(allFull(m, false), 20, 20, m.Arch),
		} {
			got := finalStates(t, m, ids, masks)
			for i := range dense {
				if math.Float32bits(got[i]) != math.Float32bits(dense[i]) {
					t.Errorf("%s, %s: state %d is %g, dense %g", c.Name, name, i, got[i], dense[i])
					break
				}
			}
		}
	}
}

// TestStreamingLossAgainstTheMatrix recomputes mass, output and projected error of every head from whole matrices.
func TestStreamingLossAgainstTheMatrix(t *testing.T) {
	const sink, recent = 3, 7
	for _, name := range []string{"llama-gqa", "llama-mha", "llama-wide-heads", "qwen3", "gpt2", "mistral-swa", "llama-pruned"} {
		t.Run(name, func(t *testing.T) {
			m := open(t, testmodel.Named(name))
			windows := calib.NewWindows([][]int32{
				testmodel.Windows(1, 40, m.Arch.V, 2)[0], testmodel.Windows(1, 10, m.Arch.V, 3)[0], testmodel.Windows(1, 25, m.Arch.V, 4)[0],
			})
			loss, err := StreamingLoss(context.Background(), m, windows, StreamingOptions{Sink: sink, Recent: recent})
			if err != nil {
				t.Fatal(err)
			}
			if loss.Mass.Samples != 2 {
				t.Errorf("%d windows counted, want 2", loss.Mass.Samples)
			}
			want := slowLoss(t, m, windows.IDs, sink, recent)
			for l, layer := range m.Arch.Layers {
				for h := range layer.H {
					closeTo(t, "mass", l, h, loss.Mass.Query[l][h], want.mass[l][h])
					closeTo(t, "output", l, h, loss.Output.Query[l][h], want.output[l][h])
				}
				for g := range kvHeads(layer) {
					closeTo(t, "projected", l, g, loss.Projected.KV[l][g], want.projected[l][g])
					closeTo(t, "group output", l, g, loss.Output.KV[l][g], want.group[l][g])
				}
			}
		})
	}
}

func closeTo(t *testing.T, what string, l, h int, got, want float64) {
	t.Helper()
	if !near(got, want, 2e-5*math.Max(1, math.Abs(want))) {
		t.Errorf("%s %d.%d: %g, want %g", what, l, h, got, want)
	}
}

type slow struct{ mass, output, group, projected [][]float64 }

// slowLoss is StreamingLoss by whole float64 matrices.
func slowLoss(t *testing.T, m *nn.Model, windows [][]int32, sink, recent int) slow {
	layers := m.Arch.Layers
	perHead := func(l arch.Layer) int { return l.H }
	s := slow{rowsOf(layers, perHead), rowsOf(layers, perHead), rowsOf(layers, kvHeads), rowsOf(layers, kvHeads)}
	norm, gdiff, gnorm, written := rowsOf(layers, perHead), rowsOf(layers, kvHeads), rowsOf(layers, kvHeads), make([]float64, len(layers))
	rows := 0
	for _, ids := range windows {
		rows += max(0, len(ids)-sink-recent)
	}
	weights := make([][]float32, len(layers))
	for l, layer := range layers {
		if layer.H == 0 {
			continue
		}
		b, err := m.LoadBlock(l)
		if err != nil {
			t.Fatal(err)
		}
		if weights[l], err = b.Weight(arch.O); err != nil {
			t.Fatal(err)
		}
		b.Free()
	}
	tap := func(layer, _ int, r rowsOfLayer) {
		sh := r.Shape
		mask := device.Mask{Sink: sink, Recent: recent}
		total := make([][]float64, sh.T)
		diffs := make([][][]float64, sh.G)
		for i := range total {
			total[i] = make([]float64, m.Arch.D)
		}
		for g := range diffs {
			diffs[g] = make([][]float64, sh.T)
			for i := range diffs[g] {
				diffs[g][i] = make([]float64, m.Arch.D)
			}
		}
		for h := range sh.H {
			g := h / (sh.H / sh.G)
			full, stream := matrix(r.AttnState, h, device.Mask{Recent: r.window}), matrix(r.AttnState, h, mask)
			of, os := headOutput(r.AttnState, h, full), headOutput(r.AttnState, h, stream)
			for i := sink + recent; i < sh.T; i++ {
				var kept float64
				for j, a := range full[i] {
					if j < sink || i-j < recent {
						kept += a
					}
				}
				s.mass[layer][h] += (1 - kept) / float64(rows)
				for c := range sh.K {
					d := of[i][c] - os[i][c]
					s.output[layer][h] += d * d
					norm[layer][h] += of[i][c] * of[i][c]
					gdiff[layer][g] += d * d
					gnorm[layer][g] += of[i][c] * of[i][c]
					for o := range m.Arch.D {
						w := float64(weights[layer][o*sh.H*sh.K+h*sh.K+c])
						diffs[g][i][o] += w * d
						total[i][o] += w * of[i][c]
					}
				}
			}
		}
		x := make([]float32, sh.T*m.Arch.D)
		if err := r.input(x); err != nil {
			t.Fatal(err)
		}
		for i := sink + recent; i < sh.T; i++ {
			for o := range total[i] {
				total[i][o] += float64(x[i*m.Arch.D+o])
				written[layer] += total[i][o] * total[i][o]
				for g := range diffs {
					s.projected[layer][g] += diffs[g][i][o] * diffs[g][i][o]
				}
			}
		}
	}
	if err := (Options{}).observe(context.Background(), m, windows, tap, nil); err != nil {
		t.Fatal(err)
	}
	for l := range layers {
		for h := range s.output[l] {
			s.output[l][h] = math.Sqrt(s.output[l][h] / norm[l][h])
		}
		for g := range s.group[l] {
			s.group[l][g] = math.Sqrt(gdiff[l][g] / gnorm[l][g])
			s.projected[l][g] = math.Sqrt(s.projected[l][g] / written[l])
		}
	}
	return s
}

// rowsOfLayer lets slowLoss use the name rows for a count.
type rowsOfLayer = rows

// promptOf turns a planted prompt into one of calib.
func promptOf(q testmodel.PlantedPrompt) calib.Prompt {
	return calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi}
}

// planted scores the model with known retrieval heads.
func planted(t *testing.T) (*testmodel.Planted, *nn.Model, []calib.Prompt) {
	p := testmodel.NewPlanted(1)
	var prompts []calib.Prompt
	for _, q := range p.Prompts(8, 160, 3, 5) {
		prompts = append(prompts, promptOf(q))
	}
	return p, open(t, p.Model), prompts
}

// TestWuFindsPlantedHeads: the two planted KV heads score near 1 and no other does; keeping the two full keeps every
// answer, keeping the best whole layer does not, and making just the two stream loses nearly all answers.
func TestWuFindsPlantedHeads(t *testing.T) {
	p, m, prompts := planted(t)
	ctx := context.Background()
	wu, err := Wu(ctx, m, prompts, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for l, row := range p.Retrieval {
		for g, is := range row {
			if v := wu.KV[l][g]; is && v < 0.95 || !is && v > 0.2 {
				t.Errorf("head %d.%d (planted %v) scores %g", l, g, is, v)
			}
		}
	}
	accuracy := func(full [][]bool) float64 {
		r, err := calib.Retrieval(ctx, m, prompts, calib.EvalOptions{Masks: Masks(full, 4, 32, m.Arch), MemLimit: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		return r.Accuracy
	}
	if a := accuracy(allFull(m, true)); a != 1 {
		t.Errorf("dense accuracy %g", a)
	}
	best := SelectCount(wu.KV, 2)
	if a := accuracy(best.Full); a != 1 {
		t.Errorf("two best heads: accuracy %g", a)
	}
	if s := SelectLayers(wu.KV, 0.34); s.Count != 4 || accuracy(s.Full) > 0.2 {
		t.Errorf("best layer: %d heads, accuracy %g", s.Count, accuracy(s.Full))
	}
	for l, row := range best.Full {
		for g := range row {
			row[g] = !p.Retrieval[l][g]
		}
	}
	if a := accuracy(best.Full); a > 0.2 {
		t.Errorf("planted heads streaming: accuracy %g", a)
	}
}

// TestRazorFindsPlantedHeads: on a random repeat the two planted heads attend to what followed the earlier occurrence.
func TestRazorFindsPlantedHeads(t *testing.T) {
	p, m, _ := planted(t)
	echo, induction, err := Razor(context.Background(), m, RazorOptions{Period: 50, Repeats: 3, Samples: 2, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	for l, row := range p.Retrieval {
		for g, is := range row {
			if v := induction.KV[l][g]; is && v < 0.9 || !is && v > 0.2 {
				t.Errorf("induction %d.%d (planted %v): %g", l, g, is, v)
			}
			if v := echo.KV[l][g]; v > 0.3 {
				t.Errorf("echo %d.%d: %g", l, g, v)
			}
		}
	}
	if echo.Samples != 2 || induction.Samples != 2 {
		t.Error("wrong number of samples")
	}
}

// TestAblateAndStreamingOnPlantedHeads: only the planted heads raise the answer loss, and the streaming loss on the
// prompts puts them before all others.
func TestAblateAndStreamingOnPlantedHeads(t *testing.T) {
	p, m, prompts := planted(t)
	ctx := context.Background()
	ablate, err := Ablate(ctx, m, prompts[:4], StreamingOptions{Sink: 4, Recent: 32})
	if err != nil {
		t.Fatal(err)
	}
	windows, err := teacherForced(prompts)
	if err != nil {
		t.Fatal(err)
	}
	loss, err := StreamingLoss(ctx, m, calib.NewWindows(windows), StreamingOptions{Sink: 4, Recent: 32})
	if err != nil {
		t.Fatal(err)
	}
	for l, row := range p.Retrieval {
		for g, is := range row {
			if v := ablate.KV[l][g]; is && v < 0.5 || !is && v > 0.1 {
				t.Errorf("ablating %d.%d (planted %v): %g", l, g, is, v)
			}
		}
	}
	if s := SelectCount(loss.Projected.KV, 2); !reflect.DeepEqual(s.Full, p.Retrieval) {
		t.Errorf("largest projected errors: %v of %v", s.Full, loss.Projected.KV)
	}
}

func TestRefusals(t *testing.T) {
	_, m, prompts := planted(t)
	ctx := context.Background()
	small, tooLarge := int32(-1), int32(999)
	for name, opt := range map[string]RazorOptions{
		"range":        {Lo: 5, Hi: 5},
		"beyond":       {Hi: 257},
		"huge":         {Hi: math.MaxInt32},
		"negative":     {Lo: -1},
		"few tokens":   {Period: 60, Lo: 0, Hi: 50},
		"excluded":     {Period: 3, Lo: 0, Hi: 3, Exclude: []int32{1}},
		"one repeat":   {Repeats: 1},
		"long":         {Period: 250, Repeats: 9},
		"bos":          {BOS: &small},
		"bos too high": {BOS: &tooLarge},
	} {
		if _, _, err := Razor(ctx, m, opt); err == nil || !strings.HasPrefix(err.Error(), "heads: ") {
			t.Errorf("razor %s: %v", name, err)
		}
	}
	bad := prompts[0]
	bad.NeedleHi = len(bad.IDs) + 1
	wrong := prompts[0]
	wrong.Answer = []int32{wrong.IDs[0]}
	for name, p := range map[string][]calib.Prompt{"none": nil, "needle": {bad}, "unanswered": {wrong}, "empty": {{}}} {
		if _, err := Wu(ctx, m, p, Options{}); err == nil {
			t.Errorf("wu %s: no error", name)
		}
	}
	w := calib.NewWindows(testmodel.Windows(1, 20, 256, 1))
	for _, sizes := range [][2]int{{4, 16}, {-1, 4}, {4, 0}, {20, 20}} {
		if _, _, err := Streaming(ctx, m, w, sizes[0], sizes[1]); err == nil {
			t.Errorf("streaming %v: no error", sizes)
		}
	}
}
