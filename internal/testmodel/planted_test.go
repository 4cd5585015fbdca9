package testmodel

import (
	"crypto/sha256"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"modelpress/internal/arch"
)

// TestNewPlantedBytes: the default model is the one that other tests have thresholds for.
func TestNewPlantedBytes(t *testing.T) {
	p := NewPlanted(1)
	h := sha256.New()
	h.Write(p.Config)
	for _, info := range p.Tensors() {
		h.Write([]byte(info.Name))
		h.Write(readAll(t, p.Model, info))
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != "19ef3852f7766eeb5146e3039856c73d78863cf261ea6a951ea4f057abcc57bb" {
		t.Errorf("the model is %s", got)
	}
	if q := p.Prompts(1, 160, 3, 5)[0]; q.NeedleLo != 77 || q.Extra != 0 {
		t.Errorf("needle at %d", q.NeedleLo)
	}
	want := [][]HeadKind{{Noise, Previous, Noise, Noise}, {Noise, Noise, Induction, Noise}, {Induction, Noise, Noise, Noise}}
	if !reflect.DeepEqual(p.Kind, want) || !p.Retrieval[1][2] || !p.Retrieval[2][0] || p.Previous != 1 {
		t.Errorf("kinds %v, retrieval %v, previous %d", p.Kind, p.Retrieval, p.Previous)
	}
}

// TestPlantedCases: every case is described as a model of its sizes, its kinds are those of its places, and its retrieval
// heads lie in two layers or more and nowhere fill one.
func TestPlantedCases(t *testing.T) {
	for _, c := range PlantedCases() {
		p := NamedPlanted(c.Name)
		a, err := arch.Describe(p.Config, p)
		if err != nil {
			t.Fatal(err)
		}
		heads, count := p.Heads(Induction)
		if !reflect.DeepEqual(heads, p.Retrieval) || count != len(p.PartBits()) || len(a.Layers) != p.Options.Layers {
			t.Errorf("%s: %v, %d parts of %v", c.Name, heads, count, p.PartBits())
		}
		layers := 0
		for l, row := range heads {
			n := 0
			for _, is := range row {
				if is {
					n++
				}
			}
			if n > 0 {
				layers++
			}
			if n == p.Options.G || a.Layers[l].G != p.Options.G {
				t.Errorf("%s: layer %d: %v", c.Name, l, row)
			}
		}
		if layers < 2 {
			t.Errorf("%s: retrieval in %d layers", c.Name, layers)
		}
		for _, c := range p.Places {
			if p.Kind[c.Layer][c.Head] != c.Kind || c.Kind.String() == Noise.String() {
				t.Errorf("%v: %v", c, p.Kind)
			}
		}
	}
}

// TestPlantRefuses: options that do not make a working model end the test that asks for them.
func TestPlantRefuses(t *testing.T) {
	pair := []Place{{1, 0, Induction}, {1, 1, Induction}}
	for name, o := range map[string]PlantedOptions{
		"no previous":     {Places: pair},
		"previous behind": {Places: append(pair, Place{1, 2, Previous})},
		"one part":        {Places: []Place{{0, 0, Previous}, {1, 0, Induction}}},
		"whole layer":     {H: 4, G: 2, Places: append(pair, Place{0, 0, Previous})},
		"twice":           {Places: append(pair, Place{0, 0, Previous}, Place{0, 0, Local})},
		"outside":         {Places: append(pair, Place{0, 0, Previous}, Place{3, 0, Local})},
		"sink":            {Places: append(pair, Place{0, 0, Previous}, Place{2, 0, Sink})},
		"noise":           {Places: append(pair, Place{0, 0, Previous}, Place{2, 0, Noise})},
		"groups":          {H: 6, G: 4},
		"small heads":     {K: 16},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "testmodel: ") {
					t.Errorf("ended with %v", r)
				}
			}()
			Plant(o)
		})
	}
}

// TestScatter: the same seed gives the same places, and other seeds others; all are sound.
func TestScatter(t *testing.T) {
	n := Counts{Induction: 3, Sink: 2, Local: 1, Echo: 1}
	first := Scatter(3, 4, n, 1)
	if !reflect.DeepEqual(first, Scatter(3, 4, n, 1)) || reflect.DeepEqual(first, Scatter(3, 4, n, 2)) {
		t.Error("places do not follow the seed")
	}
	defer func() {
		if recover() == nil {
			t.Error("three induction heads were placed where two fit")
		}
	}()
	for seed := range uint64(50) {
		o := PlantedOptions{BOS: true, Places: Scatter(3, 4, n, seed)}
		o.fill()
		if err := o.check(); err != nil || len(o.Places) != 8 {
			t.Errorf("seed %d: %v: %v", seed, o.Places, err)
		}
	}
	Scatter(3, 2, Counts{Induction: 3}, 1)
}

func TestPlantedPrompts(t *testing.T) {
	for _, name := range []string{"plain", "two-parts"} {
		p := NamedPlanted(name)
		for _, q := range append(p.Prompts(20, 64, 3, 9), p.MultiKey(20, 96, 3, 5, 9)...) {
			count := map[int32]int{}
			for _, id := range q.IDs {
				count[id]++
			}
			key := q.IDs[len(q.IDs)-1]
			if q.IDs[q.NeedleLo-1] != key || count[key] != 2 || q.NeedleHi-q.NeedleLo != 3 || q.NeedleHi > len(q.IDs)/2+4 {
				t.Fatalf("%s: %+v", name, q)
			}
			if p.BOS() && (q.IDs[0] != 0 || count[0] != 1) {
				t.Fatalf("%s: no start: %v", name, q.IDs)
			}
			for i, a := range q.Answer {
				if q.IDs[q.NeedleLo+i] != a || count[a] != 1 {
					t.Fatalf("%s: answer %d of %+v", name, i, q)
				}
			}
		}
	}
}

// TestMultiKeyDistractors: as many keys as asked for, each once, differ from the true one in exactly one part.
func TestMultiKeyDistractors(t *testing.T) {
	p := NamedPlanted("gqa8")
	for _, q := range p.MultiKey(10, 176, 4, 6, 3) {
		near, key := 0, int(q.IDs[len(q.IDs)-1])
		for _, id := range q.IDs {
			parts := 0
			for i := range p.stream.parts() {
				if p.stream.part(int(id), i) != p.stream.part(key, i) {
					parts++
				}
			}
			if parts == 1 {
				near++
			}
		}
		if near < 6 || q.Extra != 6 {
			t.Errorf("%d tokens like the key, %d distractors", near, q.Extra)
		}
	}
}

// TestText: passages repeat with a period of 64 to 94 tokens that all differ, and are the same as text.
func TestText(t *testing.T) {
	p := NamedPlanted("small")
	for _, ids := range p.Text(5, 300, 2) {
		if len(ids) != 300 || ids[0] != 0 {
			t.Fatalf("%d tokens from %d on", len(ids), ids[0])
		}
		period := 1
		for ids[1+period] != ids[1] {
			period++
		}
		seen := map[int32]bool{}
		for i, id := range ids[1:] {
			if i < period && (seen[id] || id < '!' || id > '~') || i >= period && id != ids[1+i-period] {
				t.Fatalf("token %d of period %d: %v", i, period, ids)
			}
			seen[id] = true
		}
		if text := Spell(ids); period < 64 || period > 94 || len(text) != 299 || text[:5] != text[period:period+5] {
			t.Errorf("period %d, %q", period, Spell(ids))
		}
	}
}

// TestStream: tokens of every number of parts have different codes of one norm, and a token with one part replaced has a
// code that agrees in all others.
func TestStream(t *testing.T) {
	for _, k := range []int{32, 48, 64, 128} {
		for parts := 2; parts <= 4; parts++ {
			s := newStream(k, parts, true)
			if s.used() > k/2 || s.after() >= plantedD {
				t.Errorf("K %d, %d parts: %d values of a code", k, parts, s.used())
			}
			for a := range plantedV {
				for b := range plantedV {
					most := s.used()
					if a != b {
						most -= s.length
					}
					if got := inner(s.token(a), s.token(b)); got > float64(most) || a == b && got != float64(most) {
						t.Fatalf("K %d, %d parts: %d·%d = %g", k, parts, a, b, got)
					}
				}
				for i := range parts {
					if got := inner(s.token(a), s.token(s.replace(a, i))); got < float64(s.used()-2*s.length) {
						t.Fatalf("K %d, %d parts: replacing part %d of %d: %g", k, parts, i, a, got)
					}
				}
			}
		}
	}
}

func inner(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// TestHadamardCodes: patterns are orthogonal, so that a head tells tokens apart by their dot product.
func TestHadamardCodes(t *testing.T) {
	c := hadamardCodes(16)
	for i := range c {
		for j := range c {
			want := map[bool]float64{true: 16, false: 0}[i == j]
			if dot := inner(c[i], c[j]); math.Abs(dot-want) > 0 {
				t.Errorf("%d·%d = %g", i, j, dot)
			}
		}
	}
}
