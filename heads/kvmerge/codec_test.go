package kvmerge

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

func TestCodecRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 19))
	for _, s := range []Shape{{H: 8, G: 4, K: 6}, {H: 3, G: 1, K: 1}, {H: 4, G: 4, K: 2, Rotary: 2}} {
		for _, d := range []int{0, 5} {
			m := randomMaps(&arch.Layer{H: s.H, G: s.G, K: s.K}, Contiguous(s.G, s.G), rnd)
			m.Shape = s
			m.Key.Decode[0][0] = math.Copysign(0, -1)
			m.Value.Encode[0][0] = math.SmallestNonzeroFloat64
			if d > 0 {
				m.Output = gaussian32(rnd, d*s.H*s.K)
			}
			b := m.Encode([]byte("head"))
			if string(b[:4]) != "head" || int64(len(b)) != 4+MapsBytes(s, d) {
				t.Fatalf("%d bytes of %d", len(b), MapsBytes(s, d))
			}
			b = b[4:]
			first := math.Float64frombits(binary.LittleEndian.Uint64(b))
			last := math.Float64frombits(binary.LittleEndian.Uint64(b[MapsBytes(s, 0)-8:]))
			if first != m.Key.Encode[0][0] || last != m.Value.Decode[s.G-1][s.K*s.K-1] {
				t.Errorf("the maps begin with %g and end with %g", first, last)
			}
			for _, width := range []int{d, 5} { // maps without an output are known as such whatever the width
				back, err := Decode(b, s, m.Groups, width)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(back, m) || !bytes.Equal(back.Encode(nil), b) {
					t.Errorf("%+v, width %d: decoded as other maps", s, width)
				}
			}
		}
	}
}

// Values that are no numbers keep their bits: it is the view that refuses them.
func TestCodecKeepsBits(t *testing.T) {
	s := Shape{H: 2, G: 1, K: 2}
	b := make([]byte, MapsBytes(s, 3))
	for i := range b {
		b[i] = 0xff - byte(i%7)
	}
	m, err := Decode(b, s, Groups{{0}}, 3)
	if err != nil || !bytes.Equal(m.Encode(nil), b) {
		t.Errorf("%v", err)
	}
}

func TestCodecRefusesSizes(t *testing.T) {
	s := Shape{H: 4, G: 2, K: 3}
	maps, output := int(MapsBytes(s, 0)), int(MapsBytes(s, 5))
	for _, n := range []int{0, 1, maps - 8, maps - 1, maps + 1, maps + 4, output - 4, output - 1, output + 1, 2 * output} {
		if m, err := Decode(make([]byte, n), s, nil, 5); err == nil {
			t.Errorf("%d bytes: %+v", n, m)
		}
	}
	if _, err := Decode(make([]byte, output), s, nil, 0); err == nil {
		t.Error("an output projection of no width")
	}
	if _, err := Decode(make([]byte, MapsBytes(s, -2)), s, nil, -2); err == nil {
		t.Error("an output projection of negative width")
	}
}

// TestViewShowsFittedOutput: the output projection of the maps stands in place of the fused one, in the way that the model stores
// it, and nothing else changes.
func TestViewShowsFittedOutput(t *testing.T) {
	wide := testmodel.New(testmodel.Options{Layers: 1, D: 1024, H: 8, G: 4, K: 64, F: 8, V: 8, Seed: 21}) // comes in chunks
	for name, src := range map[string]*testmodel.Model{"llama-gqa": viewCase("llama-gqa"), "llama-bias": viewCase("llama-bias"), "gpt2": viewCase("gpt2"), "wide": wide} {
		m := viewModel(t, src)
		repeat := 0
		if m.PosEmbed != "" {
			repeat = 2
		}
		plan := randomPlan(m, 2, repeat, 20)
		plain, _, err := View(src, m, plan.layers, plan.load, nil)
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(2, 19))
		fitted := &mergePlan{plan.layers, make([]*Maps, len(plan.maps))}
		last := len(m.Layers) - 1 // the others are fused
		for l, maps := range plan.maps {
			c := *maps
			if l == last {
				c.Output = gaussian32(rnd, m.D*c.Shape.H*c.Shape.K)
			}
			fitted.maps[l] = &c
		}
		v, n, err := View(src, m, fitted.layers, fitted.load, viewThreads(2))
		if err != nil {
			t.Fatal(err)
		}
		o := n.Layers[last].Linears[arch.O]
		got := logical(t, v, o, false)
		for i, want := range fitted.maps[last].Output {
			if got.v[i] != float64(want) {
				t.Fatalf("%s: value %d is %g, not %g", name, i, got.v[i], want)
			}
		}
		for _, info := range v.Tensors() {
			same := bytes.Equal(viewBytes(t, v, info.Name), viewBytes(t, plain, info.Name))
			if same != (info.Name != o.Weight) {
				t.Errorf("%s: %s is the same: %t", name, info.Name, same)
			}
		}
	}
}
