package manifest

import (
	"slices"
	"strconv"
	"strings"
)

// The sizes that golden-stick's RazorAttention has unless it is told others.
const (
	goldenSink   = 4
	goldenRecent = 256
	goldenFile   = "retrieval_heads.json"
)

var goldenStickFormat = &Format{
	Name: "golden-stick", Readers: "golden-stick (RazorAttention)", Files: goldenFile,
	Condition: "decoding is full or one streaming pair without compensation, prefill the same, no min_seq",
	write:     writeGoldenStick, read: readGoldenStick,
}

// writeGoldenStick writes the KV heads that keep the whole cache, by layer. Sizes are for golden-stick's own settings.
func writeGoldenStick(x *export) error {
	decode := x.decoding()
	s := x.streams(decode)
	x.prefillAsDecoding(decode)
	x.saving("heads that are written as full", s.span)
	var b strings.Builder
	b.WriteByte('{')
	for l, row := range s.full {
		if l > 0 {
			b.WriteString(", ")
		}
		kept := []int{}
		for g, full := range row {
			if full {
				kept = append(kept, g)
			}
		}
		b.WriteString(`"` + strconv.Itoa(l) + `": ` + pyInts(kept))
	}
	b.WriteByte('}')
	x.file(goldenFile, []byte(b.String()))
	if streaming, _ := s.counts(); streaming > 0 {
		x.note("set golden-stick's sink size to %d and its local capacity to %d, and use_virtual_token off: its virtual token has not the weight of the tokens that it stands for",
			s.sink, s.recent)
	}
	return nil
}

// readGoldenStick takes a layer that is absent for one without a full head.
func readGoldenStick(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	var kept map[string][]int
	if err := r.decode(f, &kept); err != nil {
		return err
	}
	full := make([][]bool, len(r.kvHeads))
	for l, g := range r.kvHeads {
		full[l] = make([]bool, g)
	}
	for _, key := range sortedKeys(kept) {
		l, err := strconv.Atoi(key)
		if err != nil || strconv.Itoa(l) != key {
			return r.bad(f.Name, "%.40q is no layer", key)
		}
		if l < 0 || l >= len(full) {
			return r.shape(f.Name, "layer %d, the model has %d", l, len(full))
		}
		for i, g := range kept[key] {
			if g < 0 || g >= len(full[l]) {
				return r.shape(f.Name, "layer %d has a KV head %d, the model's has %d", l, g, len(full[l]))
			}
			if slices.Contains(kept[key][:i], g) {
				return r.bad(f.Name, "layer %d has head %d twice", l, g)
			}
			full[l][g] = true
		}
	}
	sink, recent := r.sizes(goldenSink, goldenRecent)
	r.stream(full, sink, recent)
	return nil
}
