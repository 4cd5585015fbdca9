package distill

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// torchCurve is a run of PyTorch, as examples/trainbench/README.md describes it: the losses and norms of its steps in f32, and those
// in f64 from the same values.
type torchCurve struct {
	Weights, Windows             string // digests
	Length, Batch, Steps, Warmup int
	LR, Floor, Eps, Decay, Clip  float64
	Betas                        [2]float64
	Loss, Norm, Loss64, Norm64   []float64
}

// allowed returns how far a value of each step may be from the one in f64, as a share of it: 50 times as far as PyTorch's own in f32 has
// been up to there, but most at the most. It ends where PyTorch itself is further apart than 0.1 %.
func allowed(f32, f64 []float64, most float64) []float64 {
	var out []float64
	apart := 0.0
	for i, l := range f32 {
		if apart = max(apart, math.Abs(l/f64[i]-1)); apart > 1e-3 {
			break
		}
		out = append(out, min(most, 1e-6+50*apart))
	}
	return out
}

// curveWindows cuts the example's calibration ids into windows.
func curveWindows(t *testing.T, length int) calib.Windows {
	t.Helper()
	rows, err := calib.ReadIDs("../examples/tiny-llama/data/calib.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var out [][]int32
	for _, r := range rows {
		for ; len(r) >= length; r = r[length:] {
			out = append(out, r[:length])
		}
	}
	return calib.NewWindows(out)
}

// weightsDigest hashes every tensor in the order of names: the name, a zero byte, the values as little-endian f32.
func weightsDigest(t *testing.T, m *testmodel.Model) string {
	t.Helper()
	h := sha256.New()
	for _, info := range m.Tensors() {
		v, err := m.Values(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		h.Write([]byte(info.Name + "\x00"))
		b := make([]byte, 4*len(v))
		for i, x := range v {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
		}
		h.Write(b)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// TestTorchCurve trains on the windows of stored runs of PyTorch from the same values, and demands every loss as near to what PyTorch has
// in f64 as two right programs are, and norms as long as PyTorch knows them. All steps of the long runs take half a minute of processor time each: they
// are left out unless TORCH_CURVE=all.
func TestTorchCurve(t *testing.T) {
	for file, c := range map[string]struct {
		model string
		steps int // in a normal run; 0 for all
	}{
		"torch-curve.json":      {"llama", 8},
		"torch-curve-1e-3.json": {"llama", 2},
		"torch-curve-tied.json": {"llama-tied", 0},
		"torch-curve-gpt2.json": {"gpt2", 0},
	} {
		t.Run(strings.TrimSuffix(file, ".json"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			var curve torchCurve
			if err := json.Unmarshal(data, &curve); err != nil {
				t.Fatal(err)
			}
			steps := len(allowed(curve.Loss, curve.Loss64, 1))
			if c.steps > 0 && os.Getenv("TORCH_CURVE") != "all" {
				steps = min(steps, c.steps)
			}
			curve.follow(t, testmodel.New(testmodel.Scratch(c.model)), steps)
		})
	}
}

// follow makes the first steps of the run.
func (c *torchCurve) follow(t *testing.T, src *testmodel.Model, steps int) {
	t.Helper()
	if d := weightsDigest(t, src); d != c.Weights {
		t.Fatalf("weights %s, the curve is from %s", d, c.Weights)
	}
	w := curveWindows(t, c.Length)
	if w.Digest != c.Windows {
		t.Fatalf("windows %s, the curve is from %s", w.Digest, c.Windows)
	}
	p := newTestParams(t, src, described(t, src.Config, src), false)
	r := &Trainer{Model: nn.New(cpu.New(2), p, p.Arch), Params: p, Data: w, Objective: Objective{CE: 1}, Options: Options{
		Schedule: Schedule{Steps: c.Steps, Warmup: c.Warmup, LR: c.LR, Decay: Cosine, Floor: c.Floor},
		AdamW:    AdamW{Beta1: c.Betas[0], Beta2: c.Betas[1], Eps: c.Eps, Decay: c.Decay},
		Batch:    c.Batch, InOrder: true, Clip: c.Clip, Keep: 1 << 28}}
	loss, norm := 0.0, 0.0
	losses, norms := allowed(c.Loss, c.Loss64, 0.02), allowed(c.Norm, c.Norm64, 0.05)
	for i := range steps {
		got, err := r.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dl, dn := math.Abs(got.Loss/c.Loss64[i]-1), math.Abs(got.Norm/c.Norm64[i]-1)
		if loss = max(loss, dl); i < len(norms) {
			norm = max(norm, dn)
		}
		if !(dl <= losses[i]) || i < len(norms) && !(dn <= norms[i]) {
			t.Fatalf("step %d: loss %g, norm %g; PyTorch has %g and %g", i, got.Loss, got.Norm, c.Loss64[i], c.Norm64[i])
		}
	}
	t.Logf("%d of %d steps: losses within %.2g of PyTorch's in f64, norms of %d steps within %.2g", steps, c.Steps, loss, min(steps, len(norms)), norm)
}
