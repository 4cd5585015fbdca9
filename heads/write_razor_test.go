package heads

import (
	"context"
	"reflect"
	"testing"

	"modelpress/formats/manifest"
)

// TestWriteRazor: in the planted model the two induction heads stay full, and the windows of the others hold at least a C-th
// of every sequence.
func TestWriteRazor(t *testing.T) {
	pl, m, _ := planted(t)
	echo, induction, err := Razor(context.Background(), m, RazorOptions{Period: 50, Repeats: 3, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	pol := RazorPolicy{Sink: 4, MinRecent: 30, Page: 16}
	p := Draft(m.Arch)
	if err := WriteRazor(p, m.Arch, echo, induction, pol, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	sel, err := SelectRazor(echo, induction, pol)
	if err != nil {
		t.Fatal(err)
	}
	if sel.Count < 2 || sel.Count > 3 {
		t.Errorf("%d heads are full, want two and the best echo", sel.Count)
	}
	for l, row := range pl.Retrieval {
		for g, is := range row {
			if is && !sel.Full[l][g] {
				t.Errorf("planted head %d.%d streams", l, g)
			}
			for n := 1; n <= m.Arch.MaxPosition; n++ {
				got, _ := p.Resolve(l, g, manifest.Decoding, n)
				if full := got.Kind == manifest.KindFull; full != sel.Full[l][g] {
					t.Fatalf("%d.%d: %s at %d", l, g, got.Kind, n)
				} else if full {
					continue
				}
				if need := max(30, (n+4)/5); !got.Compensation || got.Sink != 16 || got.Recent%16 != 0 || got.Recent < need || got.Recent > 2*RoundUp(need, 16) {
					t.Fatalf("%d tokens: %+v", n, got)
				}
			}
			if got, _ := p.Resolve(l, g, manifest.Prefill, 2000); got.Kind != manifest.KindFull {
				t.Errorf("prefill is %s", got.Kind)
			}
		}
	}
	if len(p.Evidence) != 2 || p.Evidence[0].Method != "razor-echo" || p.Selection.Method != "razor-induction" {
		t.Errorf("evidence %+v, selection %+v", p.Evidence, p.Selection)
	}
}

// TestSelectRazorUnion counts by hand: shares of 10 heads, at least one of each kind.
func TestSelectRazorUnion(t *testing.T) {
	induction := &Scores{KV: [][]float64{{0.9, 0.1, 0.8, 0, 0}, {0, 0, 0, 0.7, 0}}}
	echo := &Scores{KV: [][]float64{{0.9, 0, 0, 0, 0}, {0.95, 0, 0, 0, 0}}}
	for _, c := range []struct {
		pol  RazorPolicy
		want []bool
	}{
		{RazorPolicy{}, []bool{true, false, false, false, false, true, false, false, false, false}},
		{RazorPolicy{Induction: 0.3, Echo: 0.2}, []bool{true, false, true, false, false, true, false, false, true, false}},
		{RazorPolicy{Induction: 1}, []bool{true, true, true, true, true, true, true, true, true, true}},
	} {
		s, err := SelectRazor(echo, induction, c.pol)
		if err != nil || !reflect.DeepEqual(flat(s.Full), c.want) {
			t.Errorf("%+v: %v, %v", c.pol, s.Full, err)
		}
	}
	for name, pol := range map[string]RazorPolicy{"share": {Induction: 2}, "window": {MinRecent: -1}, "page": {Page: -1}} {
		if _, err := SelectRazor(echo, induction, pol); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := SelectRazor(&Scores{KV: [][]float64{{1}}}, induction, RazorPolicy{}); err == nil {
		t.Error("other shape: no error")
	}
}

// TestRazorOfSlidingLayers: rules whose window is longer than the layer's own say full.
func TestRazorOfSlidingLayers(t *testing.T) {
	m := describe(t, "mistral-swa") // a window of 16
	m.MaxPosition = 400
	s := fakeScores(m)
	p := Draft(m)
	if err := WriteRazor(p, m, s, &Scores{Method: "i", Unit: "u", KV: s.KV}, RazorPolicy{Sink: 1, MinRecent: 8, Divisor: 2}, record); err != nil {
		t.Fatal(err)
	}
	sound(t, p)
	want := manifest.Rules{{MaxLen: 16, Use: "razor-8"}, {Use: "full"}}
	streaming := 0
	for _, l := range p.Layers {
		for _, h := range l.KVHeads {
			if len(h.Decode) > 1 {
				streaming++
				if !reflect.DeepEqual(h.Decode, want) {
					t.Errorf("rules %v", h.Decode)
				}
			}
		}
	}
	if streaming == 0 {
		t.Error("no head streams")
	}
}
