package calib

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/safetensors"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// tiny returns a random model of 256 tokens.
func tiny(t *testing.T, seed uint64, threads int) *nn.Model {
	t.Helper()
	src := testmodel.New(testmodel.Options{G: 2, Seed: seed})
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(deviceOf(threads), src, a)
}

// trainedModel returns the model of the examples.
func trainedModel(t *testing.T) *nn.Model {
	t.Helper()
	src, err := safetensors.Open(filepath.Join(trained, "model", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	config, err := os.ReadFile(filepath.Join(trained, "model", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := arch.Describe(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return nn.New(cpu.New(2), src, a)
}

// mixed are windows of different length.
func mixed() Windows {
	w := testmodel.Windows(5, 40, 256, 3)
	w[1], w[3] = w[1][:17], w[3][:7]
	return NewWindows(w)
}

// logSoftmax is the log of the softmax of one row in float64, the slow way.
func logSoftmax(x []float32) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v))
	}
	p := make([]float64, len(x))
	for i, v := range x {
		p[i] = float64(v) - math.Log(sum)
	}
	return p
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*(1+math.Abs(b)) }

func TestPerplexityOracle(t *testing.T) {
	m, w, ctx := tiny(t, 1, 2), mixed(), context.Background()
	for _, from := range []int{0, 5} {
		got, err := Perplexity(ctx, m, w, EvalOptions{ScoreFrom: from})
		if err != nil {
			t.Fatal(err)
		}
		sum, n := 0.0, 0
		for i, ids := range w.IDs {
			logits, err := m.Logits(ids)
			if err != nil {
				t.Fatal(err)
			}
			one := 0.0
			for pos := from; pos < len(ids)-1; pos++ {
				one -= logSoftmax(logits[pos*256 : (pos+1)*256])[ids[pos+1]]
				n++
			}
			sum += one
			if !near(got.Windows[i], one/float64(len(ids)-1-from)) {
				t.Errorf("window %d: %g, want %g", i, got.Windows[i], one/float64(len(ids)-1-from))
			}
		}
		if got.Tokens != n || !near(got.NLL, sum/float64(n)) || !near(got.PPL, math.Exp(sum/float64(n))) || got.StdErr <= 0 {
			t.Errorf("from %d: %+v, want %g over %d", from, got, sum/float64(n), n)
		}
	}
}

// TestPerplexitySame: threads, chunks of memory and full masks change no bit.
func TestPerplexitySame(t *testing.T) {
	w, ctx := mixed(), context.Background()
	want, err := Perplexity(ctx, tiny(t, 1, 1), w, EvalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for name, opt := range map[string]EvalOptions{
		"threads": {}, "spilled": {Dir: t.TempDir(), MemLimit: 1}, "progress": {Progress: func(int, int) { calls++ }},
		"masks": {Masks: func(int) []device.Mask { return make([]device.Mask, 2) }},
	} {
		for _, threads := range []int{2, 3} {
			got, err := Perplexity(ctx, tiny(t, 1, threads), w, opt)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v %v, want %v", name, got, err, want)
			}
		}
	}
	if calls != 20 {
		t.Errorf("%d calls of progress", calls)
	}
	got, err := Perplexity(ctx, tiny(t, 1, 2), w, EvalOptions{Masks: func(int) []device.Mask { return []device.Mask{{Recent: 2}, {Recent: 2}} }})
	if err != nil || got.NLL == want.NLL {
		t.Error("masks change nothing", err)
	}
}

func TestCompareOracle(t *testing.T) {
	ref, m, w, ctx := tiny(t, 1, 2), tiny(t, 2, 2), mixed(), context.Background()
	const from = 3
	var last [2]int
	got, err := Compare(ctx, ref, m, w, EvalOptions{ScoreFrom: from, Dir: t.TempDir(), MemLimit: 20000,
		Progress: func(done, total int) { last = [2]int{done, total} }})
	if err != nil {
		t.Fatal(err)
	}
	var kls []float64
	same, total := 0, 0.0
	for _, ids := range w.IDs {
		a, err1 := ref.Logits(ids)
		b, err2 := m.Logits(ids)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for pos := from; pos < len(ids)-1; pos++ {
			ra, rb := a[pos*256:(pos+1)*256], b[pos*256:(pos+1)*256]
			p, q, kl := logSoftmax(ra), logSoftmax(rb), 0.0
			for i := range p {
				kl += math.Exp(p[i]) * (p[i] - q[i])
			}
			kls = append(kls, kl)
			total += kl
			if slices.Index(ra, slices.Max(ra)) == slices.Index(rb, slices.Max(rb)) {
				same++
			}
		}
	}
	slices.Sort(kls)
	n := len(kls)
	if got.Tokens != n || !near(got.KL, total/float64(n)) || !near(got.Top1, float64(same)/float64(n)) || !near(got.Max, kls[n-1]) ||
		!near(got.P50, kls[(n+1)/2-1]) || !near(got.P90, kls[int(math.Ceil(0.9*float64(n)))-1]) || got.KL < 0.001 {
		t.Errorf("%+v, want KL %g over %d, %d same", got, total/float64(n), n, same)
	}
	if last != [2]int{20, 20} {
		t.Errorf("progress ends at %v", last)
	}
	alone, err := Perplexity(ctx, m, w, EvalOptions{ScoreFrom: from})
	if err != nil || !reflect.DeepEqual(alone, got.Model) {
		t.Error("the model's perplexity differs from that measured alone", err)
	}
	if alone, err = Perplexity(ctx, ref, w, EvalOptions{ScoreFrom: from}); err != nil || !reflect.DeepEqual(alone, got.Ref) {
		t.Error("the reference's perplexity differs from that measured alone", err)
	}
}

// TestCompareItself gives 0 to the last bit, and masks count for the model only, also where both are one.
func TestCompareItself(t *testing.T) {
	m, w, ctx := tiny(t, 1, 2), mixed(), context.Background()
	c, err := Compare(ctx, m, m, w, EvalOptions{})
	if err != nil || c.KL != 0 || c.Max != 0 || c.Top1 != 1 || c.Ref.NLL != c.Model.NLL {
		t.Error(c, err)
	}
	masked, err := Compare(ctx, m, m, w, EvalOptions{Masks: func(int) []device.Mask { return []device.Mask{{Recent: 1}, {Recent: 1}} }})
	if err != nil || masked.KL <= 0 || masked.Ref.NLL != c.Ref.NLL || masked.Model.NLL == c.Ref.NLL {
		t.Error(masked, err)
	}
}

func TestEvalErrors(t *testing.T) {
	ctx := context.Background()
	m := tiny(t, 1, 1)
	for want, w := range map[string]Windows{
		"holds no windows": {}, "window 1 has 1 tokens": {IDs: [][]int32{{1, 2}, {1}}}, "window 0: id 256 at position 1": {IDs: [][]int32{{1, 256}}},
	} {
		if _, err := Perplexity(ctx, m, w, EvalOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Perplexity(ctx, m, mixed(), EvalOptions{ScoreFrom: 6}); err == nil || !strings.Contains(err.Error(), "window 3 has 7 tokens; scoring from position 6 needs 8") {
		t.Error(err)
	}
	if _, err := Perplexity(ctx, m, mixed(), EvalOptions{ScoreFrom: -1}); err == nil {
		t.Error("a negative position passes")
	}
	src := testmodel.New(testmodel.Options{V: 300})
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(ctx, m, nn.New(m.Dev, src, a), mixed(), EvalOptions{}); err == nil || !strings.Contains(err.Error(), "vocabularies differ: 256 and 300") {
		t.Error(err)
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	if _, err := Compare(ended, m, m, mixed(), EvalOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	bad := testmodel.New(testmodel.Options{G: 2})
	w, err := bad.Values("model.norm.weight")
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		w[i] = math.MaxFloat32 / 2 // the weights are finite, the logits overflow
	}
	bad.Set("model.norm.weight", w)
	inf := nn.New(m.Dev, bad, m.Arch)
	if _, err := Perplexity(ctx, inf, mixed(), EvalOptions{}); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
	if _, err := Compare(ctx, inf, m, mixed(), EvalOptions{}); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
	p := []Prompt{{IDs: []int32{1, 2}, Answer: []int32{3}}}
	if _, err := Retrieval(ctx, inf, p, EvalOptions{}); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
	for want, p := range map[string][]Prompt{
		"there are none": nil, "no answer": {{IDs: []int32{1}}}, "prompt 0: id 999": {{IDs: []int32{999}, Answer: []int32{1}}},
		"id 998": {{IDs: []int32{9}, Answer: []int32{998}}},
	} {
		if _, err := Retrieval(ctx, m, p, EvalOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestRetrievalOracle decodes greedily, one token at a time, and compares.
func TestRetrievalOracle(t *testing.T) {
	m, ctx := tiny(t, 1, 2), context.Background()
	var prompts []Prompt
	for i, ids := range testmodel.Windows(6, 20, 256, 4) {
		ids = ids[:10+i]
		seq := slices.Clone(ids)
		for range 3 {
			logits, err := m.Logits(seq)
			if err != nil {
				t.Fatal(err)
			}
			last := logits[(len(seq)-1)*256:]
			seq = append(seq, int32(slices.Index(last, slices.Max(last))))
		}
		answer := seq[len(ids):]
		if i%2 == 1 { // wrong at the first, second or third token
			answer[i/2] = (answer[i/2] + 1) % 256
		}
		prompts = append(prompts, Prompt{IDs: ids, Answer: answer, Length: 64 * (i % 2), Depth: float64(i%3) / 2})
	}
	r, err := Retrieval(ctx, m, prompts, EvalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Right, []bool{true, false, true, false, true, false}) || r.Accuracy != 0.5 || r.Correct != 3 || r.Tokens != 18 || len(r.Grid) != 6 {
		t.Errorf("%+v", r)
	}
	total := 0.0
	for i, p := range prompts {
		logits, err := m.Logits(p.Sequence())
		if err != nil {
			t.Fatal(err)
		}
		one := 0.0
		for j, v := range p.Answer {
			pos := len(p.IDs) - 1 + j
			one -= logSoftmax(logits[pos*256 : (pos+1)*256])[v]
		}
		total += one
		if !near(r.NLL[i], one/3) {
			t.Errorf("prompt %d: %g, want %g", i, r.NLL[i], one/3)
		}
	}
	if !near(r.AnswerNLL, total/18) {
		t.Errorf("%g, want %g", r.AnswerNLL, total/18)
	}
	for i, c := range r.Grid {
		if c.Length != 64*(i/3) || c.Depth != float64(i%3)/2 || c.Prompts != 1 || c.Accuracy != float64(c.Correct) || (c.Length == 0) != (c.Correct == 1) {
			t.Errorf("cell %d: %+v", i, c)
		}
	}
}
