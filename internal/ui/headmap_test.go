package ui

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"modelpress/formats/manifest"
)

// mapPlan has every kind of policy, a layer without attention and one of its own width, and names that try to steer a terminal.
func mapPlan(t *testing.T) *manifest.Plan {
	t.Helper()
	p := manifest.New(manifest.Model{Architecture: "Llama\x1b[31m<b>", Layers: 3, Heads: 20, KVHeads: 10, HeadDim: 8, MaxPosition: 4096,
		WeightsDigest: "tensors-v1:sha256:" + strings.Repeat("0", 64)}, manifest.Producer{Name: "compress"})
	p.Policies["s&\x07"] = manifest.Streaming(4, 28)
	for id, alpha := range map[string]float64{"e0": 16, "e1": 512, "e2": 1024} {
		p.Policies[id] = manifest.Policy{Kind: manifest.KindElastic, Alpha: alpha, Beta: 0, Sink: 4, Block: 16, Min: 16, Length: "prompt"}
	}
	p.Policies["vs"] = manifest.Policy{Kind: manifest.KindVerticalSlash, Vertical: 30, Slash: 800, LastQ: 64}
	p.Policies["bk"] = manifest.Policy{Kind: manifest.KindBlockTopK, Block: 64, Selector: "mean_pool", Blocks: 8}
	p.Policies["tk"] = manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: 256, Window: 32}
	p.Policies["pw"] = manifest.Policy{Kind: manifest.KindPower, Sink: 4, Block: 16, LocalBlocks: 2}
	ids := []string{"full", "s&\x07", "e0", "e1", "e2", "vs", "bk", "tk", "pw", "full"}
	wide := manifest.Layer{Layer: 0, Select: "none"}
	for h, id := range ids {
		score := 0.125 * float64(h)
		wide.KVHeads = append(wide.KVHeads, manifest.KVHead{Head: h, Decode: manifest.Always(id), Score: &score})
	}
	narrow := manifest.Layer{Layer: 2, Select: "none", Heads: 4, KVHeadCount: 2}
	narrow.KVHeads = []manifest.KVHead{{Head: 0, Decode: manifest.Always("s&\x07")}}
	p.Layers = []manifest.Layer{wide, {Layer: 1, Select: "none", NoAttention: true}, narrow}
	p.Requires = p.Needs()
	if faults := p.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func headMap(t *testing.T, p *manifest.Plan, phase manifest.Phase, length int) *HeadMap {
	t.Helper()
	m, err := NewHeadMap(p, phase, length)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHeadMapText(t *testing.T) {
	m := headMap(t, mapPlan(t), manifest.Decoding, 1024)
	for _, c := range []struct {
		view HeadMapView
		want string
	}{
		{HeadMapView{}, `Llama\x1b[31m<b>: 3 layers, 12 KV heads, decode at 1024 tokens
layer  0        8
    0  █·▁▄▇abc d█
    1  no attention
    2  ·█            51.6 %
█ full     full            every token                                 3 heads  100.0 %
· s&\a     streaming       4 sinks, last 28                            2 heads    3.1 %
▁ e0       elastic         16 + 0·N tokens, 4 sinks of them, at least 16     1 head    1.6 %
`},
		{HeadMapView{ASCII: true}, `Llama\x1b[31m<b>: 3 layers, 12 KV heads, decode at 1024 tokens
layer  0        8
    0  #.147abc d#
    1  no attention
    2  .#            51.6 %
`},
		{HeadMapView{Scores: true, ASCII: true}, `Llama\x1b[31m<b>: 3 layers, 12 KV heads, decode at 1024 tokens
    0  # 0.000 . 0.125 1 0.250 4 0.375 7 0.500 a 0.625 b 0.750 c 0.875 d 1.000 # 1.125
    1  no attention
    2  .     - #     -`},
	} {
		got := strings.Join(m.lines(c.view, style{}), "\n")
		if c.view.ASCII && strings.IndexFunc(got, func(r rune) bool { return r > 0x7e }) >= 0 {
			t.Errorf("characters beyond ASCII in\n%s", got)
		}
		for i, want := range strings.Split(strings.TrimSuffix(c.want, "\n"), "\n") {
			have := strings.Split(got, "\n")[i]
			if i > 4 || c.view.Scores { // columns of the legend move with their widest cell
				have, want = strings.Join(strings.Fields(have), " "), strings.Join(strings.Fields(want), " ")
			}
			if !strings.HasPrefix(have, want) {
				t.Errorf("%+v, line %d:\n%s\nwant\n%s", c.view, i, have, want)
			}
		}
	}
	if len(m.Caches) != 0 {
		t.Errorf("a cache of unknown size is counted: %+v", m.Caches)
	}
}

// TestHeadMapColour: colour is added where the printer has it, and takes nothing away.
func TestHeadMapColour(t *testing.T) {
	m := headMap(t, mapPlan(t), manifest.Decoding, 1024)
	show := func(o Options) string {
		var out bytes.Buffer
		o.Out, o.Err = &out, io.Discard
		New(o).Show(Result{Name: "heads", Data: m, Map: m})
		return out.String()
	}
	plain, coloured := show(Options{}), show(Options{OutTerminal: true})
	if strings.ContainsRune(plain, 0x1b) || show(Options{OutTerminal: true, NoColor: true}) != plain {
		t.Error("colour without a terminal")
	}
	if !strings.Contains(coloured, "\x1b[32m█\x1b[0m") || !strings.Contains(coloured, "\x1b[36m▄\x1b[0m") {
		t.Errorf("no colour:\n%q", coloured)
	}
	bare := coloured
	for _, code := range []string{"0", "2", "32", "35", "36"} {
		bare = strings.ReplaceAll(bare, "\x1b["+code+"m", "")
	}
	if bare != plain {
		t.Errorf("%q\n%q", bare, plain)
	}
	var event struct {
		Data HeadMap
	}
	if err := json.Unmarshal([]byte(show(Options{JSON: true})), &event); err != nil || !reflect.DeepEqual(&event.Data, m) {
		t.Errorf("JSON: %v\n%+v", err, event.Data)
	}
}

// TestHeadMapPhases: policies are those of the phase and the length.
func TestHeadMapPhases(t *testing.T) {
	p := mapPlan(t)
	m := headMap(t, p, manifest.Prefill, 1024)
	if len(m.Policies) != 1 || m.Policies[0].ID != "full" || m.Phase != "prefill" {
		t.Errorf("%+v", m.Policies)
	}
	p.Layers[2].KVHeads[0].Decode = manifest.Rules{{MaxLen: 100, Use: "full"}, {Use: "e1"}}
	for length, want := range map[int]string{100: "full", 101: "e1"} {
		m := headMap(t, p, manifest.Decoding, length)
		if got := m.Policies[m.Layers[2][0].Policy].ID; got != want {
			t.Errorf("at %d tokens: %s, want %s", length, got, want)
		}
	}
	for _, layer := range p.Layers {
		for i := range layer.KVHeads {
			layer.KVHeads[i].Decode = manifest.Always("e1")
		}
	}
	p.Budget = &manifest.Budget{KVBytesAt: map[string]int64{"2048": 1, "256": 1, "99999999999": 1}}
	m = headMap(t, p, manifest.Decoding, 1024)
	var lengths []int
	for _, c := range m.Caches {
		lengths = append(lengths, c.Length)
		if planned, dense, _ := p.KVBytes(c.Length, 2); c.Planned != planned || c.Dense != dense || c.Share != float64(planned)/float64(dense) {
			t.Errorf("%+v, want %d of %d", c, planned, dense)
		}
	}
	if !reflect.DeepEqual(lengths, []int{256, 1024, 2048}) {
		t.Errorf("cache at %v", lengths)
	}
}

// TestHeadMapSVG: the drawing is well-formed whatever the names are, has a title for every head, and is the same each time.
func TestHeadMapSVG(t *testing.T) {
	m := headMap(t, mapPlan(t), manifest.Decoding, 1024)
	doc := m.SVG()
	if !bytes.Equal(doc, headMap(t, mapPlan(t), manifest.Decoding, 1024).SVG()) {
		t.Error("two drawings of a plan differ")
	}
	titles, rects := map[string]int{}, 0
	dec := xml.NewDecoder(bytes.NewReader(doc))
	in := ""
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if in = tok.Name.Local; in == "rect" {
				rects++
			}
		case xml.CharData:
			if in == "title" {
				titles[string(tok)]++
			}
		case xml.EndElement:
			in = ""
		}
	}
	for _, want := range []string{"layer 0, head 0: full (every token), score 0", "layer 0, head 1: s&\ufffd (4 sinks, last 28), score 0.125",
		"layer 0, head 5: vs (30 columns, 800 diagonals), score 0.625", "layer 2, head 1: full (every token)"} {
		if titles[want] != 1 {
			t.Errorf("no title %q", want)
		}
	}
	if want := 2 * (12 + len(m.Policies)); rects != want {
		t.Errorf("%d rectangles, want %d", rects, want)
	}
	if bytes.ContainsRune(doc, 0x1b) || bytes.ContainsRune(doc, 7) || bytes.Contains(doc, []byte("<b>")) {
		t.Error("a name is not escaped")
	}
}

// TestHeadMapRefuses plans that are too large to draw, before any memory is taken, and lengths out of range.
func TestHeadMapRefuses(t *testing.T) {
	p := manifest.New(manifest.Model{Architecture: "x", Layers: 1 << 16, Heads: 1 << 16, KVHeads: 1 << 16, HeadDim: 1 << 16, MaxPosition: 1 << 30}, manifest.Producer{})
	if _, err := NewHeadMap(p, manifest.Decoding, 1024); !errors.Is(err, ErrMapSize) {
		t.Errorf("%v", err)
	}
	p.Model.Layers = 2
	if _, err := NewHeadMap(p, manifest.Decoding, 1024); !errors.Is(err, ErrMapSize) {
		t.Errorf("%v", err)
	}
	p.Model.Heads, p.Model.KVHeads = 1<<13, 1<<13
	p.Phases.Decode = manifest.DecodePhase{Page: 1 << 30, Round: "up"}
	m, err := NewHeadMap(p, manifest.Decoding, MaxMapLength)
	if err != nil || len(m.Caches) != 1 || m.Caches[0].Dense <= 0 || m.Caches[0].Planned != m.Caches[0].Dense {
		t.Errorf("%v: the largest cache overflows", err)
	}
	for _, n := range []int{0, -1, MaxMapLength + 1} {
		if _, err := NewHeadMap(p, manifest.Decoding, n); err == nil {
			t.Errorf("length %d is accepted", n)
		}
	}
}
