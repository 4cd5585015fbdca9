package distill

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

func newTestLoRA(t testing.TB, name string, half bool, o LoRAOptions) *LoRA {
	t.Helper()
	src := testmodel.Named(name)
	l, err := NewLoRA(newTestParams(t, src, described(t, src.Config, src), half), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// drawB gives every B random values, but for a few rows that stay zero.
func drawB(l *LoRA) {
	for k, q := range l.List() {
		if k%2 == 0 {
			continue
		}
		copy(q.Values, randoms(q.Len(), 0.05, 120, uint64(k)))
		clear(q.Values[2*q.Cols : 4*q.Cols])
	}
}

// TestLoRABegins: new adapters change no bit of the model, in every family.
func TestLoRABegins(t *testing.T) {
	for _, c := range testmodel.Cases() {
		l := newTestLoRA(t, c.Name, false, LoRAOptions{Roles: arch.Roles(), Rank: 4, Alpha: 8, Seed: 1})
		if !sameBits(logitsOf(t, l, l.Base.Arch), logitsOf(t, l.Base, l.Base.Arch)) {
			t.Errorf("%s: logits differ", c.Name)
		}
		w := l.order[0].w
		w.Values[0] = float32(math.Copysign(0, -1))
		if !sameBits(contents(t, l, w.Name), w.Values) {
			t.Errorf("%s: %s differs", c.Name, w.Name)
		}
	}
}

// TestLoRAWeights: weights with an adapter are W + (alpha/r)·B·A in float64, all others those of the base; odd pieces give the bits
// of the whole, and the list is as the roles say.
func TestLoRAWeights(t *testing.T) {
	for _, half := range []bool{false, true} {
		o := LoRAOptions{Roles: []arch.Role{arch.Q, arch.V, arch.Down}, Rank: 3, Alpha: 1.5, Seed: 2}
		l := newTestLoRA(t, "llama-pruned", half, o)
		drawB(l)
		var names []string
		for _, q := range l.List() {
			names = append(names, q.Name)
			if strings.HasSuffix(q.Name, "lora_a") && (q.Rows != 3 || !slices.ContainsFunc(q.Values, func(v float32) bool { return v != 0 })) {
				t.Errorf("%s is %dx%d", q.Name, q.Rows, q.Cols)
			}
		}
		// Layer 1 has no attention, layer 3 no FFN.
		if want := 2 * 9; len(names) != want {
			t.Errorf("%d factors, want %d: %v", len(names), want, names)
		}
		adapted := 0
		for _, q := range l.Base.List() {
			base := make([]float32, q.Len())
			q.Read(base, 0)
			got := contents(t, l, q.Name)
			a, b := l.Factors(q.Layer, q.Role)
			info, _ := l.Lookup(q.Name)
			if q.Part != Projection || q.Bias || a == nil {
				if !sameBits(got, base) || info.DType != q.DType() {
					t.Errorf("%s changed", q.Name)
				}
				continue
			}
			adapted++
			if info.DType != formats.F32 {
				t.Errorf("%s is shown as %s", q.Name, info.DType)
			}
			for i, v := range got {
				want := float64(base[i])
				for k := range o.Rank {
					want += 0.5 * float64(b.Values[i/q.Cols*o.Rank+k]) * float64(a.Values[k*q.Cols+i%q.Cols])
				}
				if math.Abs(float64(v)-want) > 1e-7 {
					t.Fatalf("%s[%d] is %g, want %g", q.Name, i, v, want)
				}
			}
		}
		if adapted != len(names)/2 {
			t.Errorf("%d weights are adapted", adapted)
		}
		for _, info := range l.Tensors() {
			if own, ok := l.Lookup(info.Name); !ok || own.DType != info.DType {
				t.Errorf("%v is listed as %v", own, info)
			}
			checkUnaligned(t, l, info)
		}
		var e *formats.Error
		if err := l.ReadAt(l.order[0].w.Name, make([]byte, 5), 4*int64(l.order[0].w.Len())-4); !errors.As(err, &e) {
			t.Errorf("past the end: %v", err)
		}
	}
}

// TestLoRALargeRead: a weight of more values than are made at a time, in one read.
func TestLoRALargeRead(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 1, D: 64, F: 9000, V: 16})
	l, err := NewLoRA(newTestParams(t, src, described(t, src.Config, src), false), LoRAOptions{Roles: []arch.Role{arch.Up, arch.Down}, Rank: 2, Alpha: 2})
	if err != nil {
		t.Fatal(err)
	}
	drawB(l)
	for _, ad := range l.order {
		got := contents(t, l, ad.w.Name)
		for i := 0; i < len(got); i += 997 {
			r, c := i/ad.w.Cols, i%ad.w.Cols
			want := float64(ad.w.Values[i])
			for k := range 2 {
				want += float64(ad.b.Values[2*r+k]) * float64(ad.a.Values[k*ad.w.Cols+c])
			}
			if math.Abs(float64(got[i])-want) > 1e-7 {
				t.Fatalf("%s[%d] is %g, want %g", ad.w.Name, i, got[i], want)
			}
		}
	}
}

// TestLoRAProject: gradients by A and B against central differences of a loss that is linear in the weight.
func TestLoRAProject(t *testing.T) {
	l := newTestLoRA(t, "llama-gqa", false, LoRAOptions{Roles: []arch.Role{arch.K, arch.Up}, Rank: 4, Alpha: 6, Seed: 3})
	drawB(l)
	for _, role := range []arch.Role{arch.K, arch.Up} {
		a, b := l.Factors(1, role)
		rank, in, out := a.Rows, a.Cols, b.Rows
		dw := randoms(out*in, 1, 130, uint64(role))
		wa, wb := wide(a.Values), wide(b.Values)
		f := func() float64 {
			sum := 0.0
			for o := range out {
				for k := range rank {
					for i := range in {
						sum += float64(dw[o*in+i]) * 1.5 * wb[o*rank+k] * wa[k*in+i]
					}
				}
			}
			return sum
		}
		run := func(threads int) (da, db []float32) {
			da, db = randoms(a.Len(), 0.1, 131), randoms(b.Len(), 0.1, 132)
			l.Project(da, db, dw, 1, role, cpu.New(threads).For)
			return da, db
		}
		da, db := run(1)
		for _, side := range []struct {
			x         []float64
			got, from []float32
		}{{wa, da, randoms(a.Len(), 0.1, 131)}, {wb, db, randoms(b.Len(), 0.1, 132)}} {
			for i := 0; i < len(side.x); i += 1 + len(side.x)/30 {
				if want := slope(f, side.x, i, 1e-3) + float64(side.from[i]); math.Abs(float64(side.got[i])-want) > 1e-5*(1+math.Abs(want)) {
					t.Fatalf("%s: gradient %d is %g, want %g", role, i, side.got[i], want)
				}
			}
		}
		if a2, b2 := run(3); !sameBits(a2, da) || !sameBits(b2, db) {
			t.Errorf("%s: threads give other bits", role)
		}
	}
}

// TestLoRAMerge: the base takes over the bits of the model with adapters, which stays what it was; in bfloat16 the nearest ones.
func TestLoRAMerge(t *testing.T) {
	for _, name := range []string{"gpt2", "qwen2-tied"} {
		l := newTestLoRA(t, name, false, LoRAOptions{Roles: arch.Roles(), Rank: 2, Alpha: 2, Seed: 4})
		drawB(l)
		want := logitsOf(t, l, l.Base.Arch)
		if sameBits(want, logitsOf(t, l.Base, l.Base.Arch)) {
			t.Fatalf("%s: the adapters change nothing", name)
		}
		l.Merge()
		if !sameBits(logitsOf(t, l.Base, l.Base.Arch), want) || !sameBits(logitsOf(t, l, l.Base.Arch), want) {
			t.Errorf("%s: logits differ once merged", name)
		}
	}
	l := newTestLoRA(t, "qwen2", true, LoRAOptions{Roles: []arch.Role{arch.O}, Rank: 2, Alpha: 2})
	drawB(l)
	w := l.order[1].w
	acting := contents(t, l, w.Name)
	l.Merge()
	for i, h := range w.Half {
		if h != formats.BF16FromF32(acting[i]) {
			t.Fatalf("value %d is not the nearest to %g", i, acting[i])
		}
	}
}

func TestLoRARefuses(t *testing.T) {
	src := testmodel.Named("gpt2")
	p := newTestParams(t, src, described(t, src.Config, src), false)
	for i, o := range []LoRAOptions{
		{Roles: arch.Roles(), Alpha: 1}, {Roles: arch.Roles(), Rank: 1}, {Roles: arch.Roles(), Rank: 1, Alpha: math.Inf(1)},
		{Roles: arch.Roles(), Rank: 65, Alpha: 1}, {Rank: 1, Alpha: 1}, {Roles: []arch.Role{arch.Gate}, Rank: 1, Alpha: 1},
	} {
		if _, err := NewLoRA(p, o); err == nil {
			t.Errorf("case %d: %+v passes", i, o)
		}
	}
}
