package manifest

import (
	"fmt"
	"strconv"
)

// reader is another format on its way into a plan: every head of the model has an entry and is full until a file says
// otherwise.
type reader struct {
	ledger
	format  string
	files   []File
	o       Options
	p       *Plan
	qHeads  []int // of each layer
	kvHeads []int // of each layer
	ids     map[string]string
	next    map[string]int
}

func newReader(format string, files []File, model *Plan, o Options) (*reader, error) {
	r := &reader{format: format, files: files, o: o, ids: map[string]string{}, next: map[string]int{}}
	var err error
	if r.qHeads, r.kvHeads, err = headCounts(model); err != nil {
		return nil, err
	}
	for _, f := range files {
		if len(f.Data) > MaxImportBytes {
			return nil, r.bad(f.Name, "%d bytes, at most %d are read", len(f.Data), MaxImportBytes)
		}
	}
	r.p = New(model.Model, model.Producer)
	r.p.Phases.Prefill.FirstChunk = "policy"
	r.p.Layers = make([]Layer, model.Model.Layers)
	for l := range r.p.Layers {
		r.p.Layers[l] = Layer{Layer: l, Select: "none", KVHeads: make([]KVHead, r.kvHeads[l]), NoAttention: r.qHeads[l] == 0}
		for g := range r.p.Layers[l].KVHeads {
			r.p.Layers[l].KVHeads[g] = KVHead{Head: g, Decode: Always("full"), Prefill: "full"}
		}
	}
	for i := range model.Layers {
		if from := &model.Layers[i]; from.Layer >= 0 && from.Layer < len(r.p.Layers) {
			to := &r.p.Layers[from.Layer]
			to.SourceLayer, to.Heads, to.KVHeadCount = from.SourceLayer, from.Heads, from.KVHeadCount
		}
	}
	return r, nil
}

// bad is the error for a file that is not what the format says; an argument of %w is kept.
func (r *reader) bad(file, format string, args ...any) error {
	return &ImportError{r.format, file, fmt.Errorf("%w: %w", ErrFile, fmt.Errorf(format, args...))}
}

// shape is the error for a file of another model.
func (r *reader) shape(file, format string, args ...any) error {
	return &ImportError{r.format, file, fmt.Errorf("%w: %s", ErrShape, fmt.Sprintf(format, args...))}
}

// only returns the file of a format that has one.
func (r *reader) only() (File, error) {
	if len(r.files) != 1 {
		return File{}, r.bad("", "%d files, want one", len(r.files))
	}
	return r.files[0], nil
}

// named returns a file of a directory.
func (r *reader) named(name string) (File, error) {
	for _, f := range r.files {
		if f.Name == name {
			return f, nil
		}
	}
	return File{}, r.bad(name, "is missing")
}

// layers checks the number of layers that a file has.
func (r *reader) layers(file string, n int) error {
	if n != len(r.kvHeads) {
		return r.shape(file, "%d layers, the model has %d", n, len(r.kvHeads))
	}
	return nil
}

// width checks the number of heads that a layer of a file has. counts is qHeads or kvHeads.
func (r *reader) width(file string, layer, n int, counts []int) error {
	if n != counts[layer] {
		return r.shape(file, "layer %d has %d heads, the model's has %d", layer, n, counts[layer])
	}
	return nil
}

// policy returns the id of a policy: the one that it has, else prefix and a number.
func (r *reader) policy(prefix string, pol Policy) (string, error) {
	text, err := pol.MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("manifest: %s: %w", r.format, err)
	}
	if id, ok := r.ids[string(text)]; ok {
		return id, nil
	}
	id := prefix + strconv.Itoa(r.next[prefix])
	r.next[prefix]++
	r.ids[string(text)] = id
	r.p.Policies[id] = pol
	return id, nil
}

// sizes returns the sizes of streaming heads: those that were asked for, else the given ones.
func (r *reader) sizes(sink, recent int) (int, int) {
	if r.o.Recent > 0 {
		return r.o.Sink, r.o.Recent
	}
	return sink, recent
}

// stream gives KV heads that are not full the sizes, in decoding and in prefill.
func (r *reader) stream(full [][]bool, sink, recent int) {
	r.p.Policies["s"] = Streaming(sink, recent) // kept where no head has it, for its sizes
	for l, row := range full {
		for g, isFull := range row {
			if h := &r.p.Layers[l].KVHeads[g]; !isFull {
				h.Decode, h.Prefill = Always("s"), "s"
			}
		}
	}
}

// prefill gives the query heads of a layer their policies: each KV head that of most of its query heads, the first among
// equals, and the others a policy of their own.
func (r *reader) prefill(layer int, ids []string) {
	if len(ids) == 0 {
		return
	}
	n := r.qHeads[layer] / r.kvHeads[layer]
	for g := range r.p.Layers[layer].KVHeads {
		setPrefill(&r.p.Layers[layer].KVHeads[g], g*n, ids[g*n:(g+1)*n])
	}
}

// setPrefill gives a KV head the policies of its query heads, the first of which is number first of the layer.
func setPrefill(h *KVHead, first int, ids []string) {
	count := map[string]int{}
	for _, id := range ids {
		count[id]++
	}
	h.Prefill, h.QHeads = ids[0], nil
	for _, id := range ids {
		if count[id] > count[h.Prefill] {
			h.Prefill = id
		}
	}
	for i, id := range ids {
		if id != h.Prefill {
			if h.QHeads == nil {
				h.QHeads = map[string]QueryHead{}
			}
			h.QHeads[strconv.Itoa(first+i)] = QueryHead{Prefill: id}
		}
	}
}
