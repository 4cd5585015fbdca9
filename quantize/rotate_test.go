package quantize

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

func describe(t *testing.T, config []byte, src formats.Source) *arch.Model {
	t.Helper()
	m, err := arch.Describe(config, src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func logits(t *testing.T, src formats.Source, m *arch.Model) []float32 {
	t.Helper()
	y, err := nn.New(cpu.New(1), src, m).Logits(testmodel.Windows(1, 40, m.V, 5)[0])
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// distance returns the largest difference relative to the root mean square of want.
func distance(got, want []float32) float64 {
	var worst, sum float64
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
		sum += float64(want[i]) * float64(want[i])
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}

// spiced gives norms and biases values that are not the ones that would hide a mistake.
func spiced(t *testing.T, c testmodel.Case) *testmodel.Model {
	t.Helper()
	src := testmodel.New(c.Options)
	for i, info := range src.Tensors() {
		if len(info.Shape) != 1 {
			continue
		}
		v := make([]float32, info.Shape[0])
		for j := range v {
			v[j] = 1 + 0.5*float32(math.Sin(float64(i+7*j)))
			if strings.HasSuffix(info.Name, "bias") {
				v[j] -= 1
			}
		}
		src.Set(info.Name, v)
	}
	return src
}

func TestRotationKeepsLogits(t *testing.T) {
	for _, c := range testmodel.Cases() {
		if c.Options.Family == "gpt2" {
			continue
		}
		src := spiced(t, c)
		m := describe(t, src.Config, src)
		want := logits(t, src, m)
		for _, r := range []Rotation{
			{Kind: Hadamard, R2: true, Seed: 1}, {Kind: QR, R2: true, Seed: 2}, {Kind: Hadamard, Seed: 3},
			{Kind: None, R2: true, Seed: 4}, {Kind: QR, R2: true, HeadKind: Hadamard, Seed: 5},
		} {
			view, n, err := Rotate(src, m, r, cpu.New(2))
			if err != nil {
				t.Fatal(err)
			}
			if n.Tied && r.Kind != None {
				t.Errorf("%s: still tied", c.Name)
			}
			if d := distance(logits(t, view, n), want); d > 2e-5 {
				t.Errorf("%s, %+v: logits differ by %.2g of their size", c.Name, r, d)
			}
		}
	}
}

func TestRotationWithMissingSublayers(t *testing.T) {
	c := testmodel.Case{Name: "three layers", Options: testmodel.Options{G: 2, Layers: 3, Tied: true, Seed: 6}}
	src := spiced(t, c)
	config := bytes.Replace(src.Config, []byte("{"),
		[]byte(`{"per_layer_config":{"0":{"skip":["mlp"]},"1":{"skip":["attention"]},"2":{"skip":["attention","mlp"]}},`), 1)
	m := describe(t, config, src)
	if m.Layers[0].F != 0 || m.Layers[1].H != 0 {
		t.Fatal("layers are whole")
	}
	view, n, err := Rotate(src, m, Rotation{Kind: Hadamard, R2: true, Seed: 7}, cpu.New(2))
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(t, view, n), logits(t, src, m)); d > 2e-5 {
		t.Errorf("logits differ by %.2g of their size", d)
	}
}

func TestRotationIsAsDescribed(t *testing.T) {
	src := spiced(t, testmodel.Case{Options: testmodel.Options{G: 2, Bias: true, Tied: true, Seed: 8}})
	m := describe(t, src.Config, src)
	r := Rotation{Kind: Hadamard, R2: true, Seed: 9}
	view, n, err := Rotate(src, m, r, cpu.New(2))
	if err != nil {
		t.Fatal(err)
	}
	if n.LMHead != "lm_head.weight" || m.Tied != true || n.Embed != m.Embed {
		t.Errorf("head %q, tied %v", n.LMHead, n.Tied)
	}
	if ch := r.ConfigChanges(m); len(ch) != 1 || ch[0].Key != "tie_word_embeddings" || string(ch[0].Value) != "false" {
		t.Errorf("config changes %v", ch)
	}
	for _, p := range n.Parameters() {
		info, ok := view.Lookup(p.Name)
		if !ok || info.DType != formats.F32 {
			t.Errorf("%s: %v", p.Name, info)
		}
	}
	for _, norm := range []string{n.FinalNorm.Weight, n.Layers[1].AttnNorm.Weight, n.Layers[0].FFNNorm.Weight} {
		for _, v := range values(t, view, norm) {
			if v != 1 {
				t.Fatalf("%s holds %v", norm, v)
			}
		}
	}
	// Rotations keep lengths: of embedding rows, and of output columns summed over a KV head.
	before, after := values(t, src, m.Embed), values(t, view, n.Embed)
	for i := range 5 {
		a, b := squared(before[i*m.D:(i+1)*m.D], make([]float32, m.D)), squared(after[i*m.D:(i+1)*m.D], make([]float32, m.D))
		if math.Abs(a-b) > 1e-5*a {
			t.Errorf("embedding row %d: squared length %v, then %v", i, a, b)
		}
	}
}

func values(t *testing.T, src formats.Source, name string) []float32 {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	n, err := info.Elements()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	if err := formats.ReadF32(src, name, v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRotatedRangesAgreeWithTheWhole(t *testing.T) {
	src := testmodel.New(testmodel.Options{G: 2, Bias: true, D: 48, H: 4, K: 12, F: 80, Seed: 10})
	m := describe(t, src.Config, src)
	view, _, err := Rotate(src, m, Rotation{Kind: Hadamard, R2: true, Seed: 11}, cpu.New(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range view.Tensors() {
		size, _ := info.Bytes()
		whole := make([]byte, size)
		if err := view.ReadAt(info.Name, whole, 0); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, step := range []int64{1000, 4 * 37, size/2 + 1} {
			wg.Go(func() {
				for off := int64(0); off < size; off += step {
					p := make([]byte, min(step, size-off))
					if err := view.ReadAt(info.Name, p, off); err != nil || !bytes.Equal(p, whole[off:off+int64(len(p))]) {
						t.Errorf("%s: bytes at %d differ (%v)", info.Name, off, err)
						return
					}
				}
			})
		}
		wg.Wait()
		p := make([]byte, 3)
		if err := view.ReadAt(info.Name, p, 5); err != nil || !bytes.Equal(p, whole[5:8]) {
			t.Errorf("%s: three bytes at 5 differ (%v)", info.Name, err)
		}
		if err := view.ReadAt(info.Name, p, size-1); err == nil {
			t.Errorf("%s: read past the end", info.Name)
		}
	}
	if n := len(view.(*rotated).cache.entries); n > cacheEntries {
		t.Errorf("%d blocks kept", n)
	}
}

func TestIdentityRotation(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	m := describe(t, src.Config, src)
	for _, r := range []Rotation{{}, {Kind: None, Seed: 3}} {
		view, n, err := Rotate(src, m, r, cpu.New(2))
		if err != nil || view != formats.Source(src) || n != m {
			t.Errorf("%+v changes the source (%v)", r, err)
		}
	}
	// R2 alone leaves all tensors but V and O as they are.
	view, _, err := Rotate(src, m, Rotation{R2: true}, cpu.New(2))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, info := range view.Tensors() {
		if now, _ := src.Lookup(info.Name); now.DType != info.DType || !bytes.Equal(raw(t, view, info), raw(t, src, now)) {
			changed++
		}
	}
	if changed != 2*len(m.Layers) {
		t.Errorf("%d tensors changed in %d layers", changed, len(m.Layers))
	}
}

func raw(t *testing.T, src formats.Source, info formats.TensorInfo) []byte {
	t.Helper()
	n, _ := info.Bytes()
	b := make([]byte, n)
	if err := src.ReadAt(info.Name, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRotationSeeds(t *testing.T) {
	src := testmodel.Named("llama-gqa")
	m := describe(t, src.Config, src)
	read := func(seed uint64) []float32 {
		view, n, err := Rotate(src, m, Rotation{Kind: Hadamard, R2: true, Seed: seed}, cpu.New(2))
		if err != nil {
			t.Fatal(err)
		}
		return values(t, view, n.Layers[0].Linears[arch.O].Weight)
	}
	if distance(read(1), read(1)) != 0 {
		t.Error("the same seed gives another rotation")
	}
	if distance(read(1), read(2)) == 0 {
		t.Error("another seed gives the same rotation")
	}
}

func TestRotationRefuses(t *testing.T) {
	gpt2 := testmodel.Named("gpt2")
	if _, _, err := Rotate(gpt2, describe(t, gpt2.Config, gpt2), Rotation{Kind: Hadamard}, cpu.New(2)); err == nil || !strings.Contains(err.Error(), "LayerNorm") {
		t.Errorf("gpt2: %v", err)
	}
	odd := testmodel.New(testmodel.Options{D: 36 * 3, H: 4, K: 18, F: 64})
	m := describe(t, odd.Config, odd)
	if RotationKind(18) != QR || RotationKind(2048) != Hadamard || RotationKind(3584) != Hadamard {
		t.Error("kinds for sizes 18, 2048, 3584")
	}
	_, _, err := Rotate(odd, m, Rotation{Kind: Hadamard, R2: true}, cpu.New(2))
	if err == nil || !strings.Contains(err.Error(), "size 18") || !strings.Contains(err.Error(), QR) {
		t.Errorf("head dim 18: %v", err)
	}
	if _, _, err = Rotate(odd, m, Rotation{R2: true}, cpu.New(2)); err != nil {
		t.Errorf("head dim 18 with a kind that fits: %v", err)
	}
	if _, _, err = Rotate(odd, m, Rotation{Kind: "wavelet"}, cpu.New(2)); err == nil {
		t.Error("an unknown kind was accepted")
	}
	src := testmodel.Named("llama-gqa")
	m = describe(t, src.Config, src)
	w := values(t, src, m.Layers[0].Linears[arch.Down].Weight)
	w[3] = float32(math.NaN())
	src.Set(m.Layers[0].Linears[arch.Down].Weight, w)
	view, _, err := Rotate(src, m, Rotation{Kind: Hadamard}, cpu.New(2))
	if err != nil {
		t.Fatal(err)
	}
	var e *formats.Error
	if err := view.ReadAt(m.Layers[0].Linears[arch.Down].Weight, make([]byte, 4), 0); !errors.As(err, &e) || e.Tensor == "" {
		t.Errorf("a weight that is NaN: %v", err)
	}
	if err := view.ReadAt(m.Layers[0].Linears[arch.Down].Weight, make([]byte, 4), 0); err == nil {
		t.Error("the second read hides the error")
	}
}
