package testmodel

import (
	"fmt"

	"modelpress/formats"
)

// PlantedOptions describes a planted model. Zero fields take the value in brackets.
type PlantedOptions struct {
	Layers int // decoder blocks [3]
	H      int // query heads [8]
	G      int // KV heads [4]
	K      int // head dim, a multiple of 4 and at least 32 [64]

	// Places are the heads that do something [a previous-token head at 0.1, induction heads at 1.2 and 2.0]. Part p of every
	// answer is carried by the p-th induction head of the list; there are two to four.
	Places []Place

	// BOS makes token 0 the start of every sequence. An induction head that finds nothing rests on it and then writes
	// nothing, as heads of trained models do; sink heads need it. Logits are then scaled so that each part of an answer counts
	// 10 nats, and a token without a precedent costs log V nats.
	BOS bool
	// OneQuery plants only one query head of each KV head of Places; the others of the group are noise.
	OneQuery bool

	Noise float32 // scale of all weights that nothing was planted in, relative to a random model's [0.02]
	Seed  uint64
}

// Planted is a model whose heads are known because they were put there by hand: see [Plant].
type Planted struct {
	*Model
	// Retrieval says which KV heads the model needs to look far back with, [layer][KV head]: the induction heads.
	Retrieval [][]bool
	// Kind is what each KV head does, [layer][KV head].
	Kind [][]HeadKind
	// Places are the heads that are not noise, in the order of the options.
	Places []Place
	// Previous is the KV head of the first previous-token head.
	Previous int

	opt    PlantedOptions
	stream stream
}

// NewPlanted is [Plant] with the default options: three layers, eight query heads on four KV heads, three planted heads.
func NewPlanted(seed uint64) *Planted { return Plant(PlantedOptions{Seed: seed}) }

// Plant builds a Llama with grouped queries that continues a repeated passage by an induction circuit (Olsson et al.,
// arXiv:2209.11895) whose parts are known:
//
// a previous-token head copies the code of the previous token into the residual stream; each induction head, in some later
// layer, looks for the position whose previous token is the current one, and writes its part of that position's code to the
// output. The answer needs all parts, so the induction heads cannot stand in for each other, and as no layer consists of
// them alone, no rule that treats a layer as a whole can keep them at their price. Sink, local and duplicate-token heads
// may stand beside them, which write a little noise and are not needed. The FFN writes nothing.
//
// Plant panics on options that contradict each other.
func Plant(o PlantedOptions) *Planted {
	o.fill()
	if err := o.check(); err != nil {
		panic(err)
	}
	parts := 0
	for _, c := range o.Places {
		if c.Kind == Induction {
			parts++
		}
	}
	p := &Planted{opt: o, Places: o.Places, stream: newStream(o.K, parts, o.BOS),
		Model: New(Options{Layers: o.Layers, D: plantedD, H: o.H, G: o.G, K: o.K, F: 64, V: plantedV, Context: 2048,
			Theta: plantedTheta, DType: formats.F32, Seed: o.Seed})}
	p.truth()
	p.quiet()
	p.embeddings()
	p.plant()
	return p
}

func (o *PlantedOptions) fill() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Layers, 3)
	def(&o.H, 8)
	def(&o.G, 4)
	def(&o.K, 64)
	if o.Noise == 0 {
		o.Noise = 0.02
	}
	if o.Places == nil {
		o.Places = []Place{{0, 1, Previous}, {1, 2, Induction}, {2, 0, Induction}}
	}
}

func (o *PlantedOptions) check() error {
	if o.K < 32 || o.K%4 != 0 || o.G < 1 || o.H < 1 || o.H%o.G != 0 || o.Layers < 1 {
		return fmt.Errorf("testmodel: planted model of %d layers, %d query heads, %d KV heads, head dim %d", o.Layers, o.H,
			o.G, o.K)
	}
	return checkPlaces(o)
}

// truth writes down what is planted where.
func (p *Planted) truth() {
	p.Retrieval, p.Kind = make([][]bool, p.opt.Layers), make([][]HeadKind, p.opt.Layers)
	for l := range p.Kind {
		p.Retrieval[l], p.Kind[l] = make([]bool, p.opt.G), make([]HeadKind, p.opt.G)
	}
	for i := len(p.Places) - 1; i >= 0; i-- {
		c := p.Places[i]
		p.Kind[c.Layer][c.Head] = c.Kind
		p.Retrieval[c.Layer][c.Head] = c.Kind == Induction
		if c.Kind == Previous {
			p.Previous = c.Head
		}
	}
}

// quiet turns all weights of blocks into weak noise, the FFN off and the norms to ones.
func (p *Planted) quiet() {
	for _, t := range p.Tensors() {
		v, err := p.Values(t.Name)
		if err != nil {
			panic(err)
		}
		for i := range v {
			if len(t.Shape) == 1 {
				v[i] = 1
			} else {
				v[i] *= p.opt.Noise
			}
		}
		p.Set(t.Name, v)
	}
	for l := range p.opt.Layers {
		p.Set(fmt.Sprintf("model.layers.%d.mlp.down_proj.weight", l), make([]float32, plantedD*p.Options.F))
	}
}

// embeddings writes each token's code and the constant, and an output that reads the third part of the stream. The start
// of a sequence has a flag instead of a code, of the same norm.
func (p *Planted) embeddings() {
	s := p.stream
	embed, head := make([]float32, plantedV*plantedD), make([]float32, plantedV*plantedD)
	for t := range plantedV {
		row := embed[t*plantedD:][:plantedD]
		row[s.constant()] = 1
		if s.bos && t == plantedBOS {
			row[s.flag()] = s.flagSize()
			continue
		}
		code := s.token(t)
		copy(row, code)
		for c, v := range code {
			head[t*plantedD+2*s.room+c] = v * s.sharpness()
		}
	}
	p.Set("model.embed_tokens.weight", embed)
	p.Set("lm_head.weight", head)
}
