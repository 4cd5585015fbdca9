package testmodel

import (
	"fmt"
	"math/rand/v2"
)

// HeadKind is what a KV head of a planted model does.
type HeadKind int

// The kinds of heads. Only induction heads need distant tokens for what they write to matter.
const (
	Noise     HeadKind = iota // attends almost evenly and writes next to nothing
	Induction                 // attends to what followed the current token earlier, and writes a part of its code
	Previous                  // attends to the previous token and writes its code
	Sink                      // attends to the start of the sequence and writes a little noise
	Local                     // attends to the last eight tokens or so and writes a little noise
	Echo                      // attends to earlier occurrences of the current token, else to itself, and writes a little noise
)

// String returns the kind's name in lower case.
func (k HeadKind) String() string {
	return [...]string{"noise", "induction", "previous", "sink", "local", "echo"}[k]
}

// Place is a KV head and what it does.
type Place struct {
	Layer, Head int
	Kind        HeadKind
}

// checkPlaces refuses places that do not make a working model.
func checkPlaces(o *PlantedOptions) error {
	used, inLayer := map[[2]int]bool{}, make([]int, o.Layers)
	parts, previous, first := 0, -1, o.Layers
	for _, c := range o.Places {
		at := [2]int{c.Layer, c.Head}
		if c.Layer < 0 || c.Layer >= o.Layers || c.Head < 0 || c.Head >= o.G || used[at] || c.Kind <= Noise || c.Kind > Echo {
			return fmt.Errorf("testmodel: %v head at %d.%d", c.Kind, c.Layer, c.Head)
		}
		used[at] = true
		switch c.Kind {
		case Induction:
			parts++
			inLayer[c.Layer]++
			first = min(first, c.Layer)
		case Previous:
			previous = max(previous, c.Layer)
		case Sink:
			if !o.BOS {
				return fmt.Errorf("testmodel: a sink head without a start of the sequence")
			}
		}
	}
	for l, n := range inLayer {
		if n == o.G {
			return fmt.Errorf("testmodel: layer %d has induction heads only", l)
		}
	}
	if parts < 2 || parts > 4 || previous < 0 || previous >= first {
		return fmt.Errorf("testmodel: %d induction heads from layer %d on, previous-token heads up to layer %d", parts, first,
			previous)
	}
	return nil
}

// Counts says how many heads of each kind [Scatter] places.
type Counts struct{ Induction, Sink, Local, Echo int }

// Scatter returns places drawn from the seed for a model of the given layers and KV heads: one previous-token head in
// layer 0, induction heads in different later layers as far as there are enough, the others anywhere. It panics where they
// do not fit.
func Scatter(layers, g int, n Counts, seed uint64) []Place {
	if n.Induction > (layers-1)*(g-1) || 1+n.Induction+n.Sink+n.Local+n.Echo > layers*g {
		panic(fmt.Sprintf("testmodel: %+v do not fit %d layers of %d KV heads", n, layers, g))
	}
	rng := rand.New(rand.NewPCG(seed, 0x706c6163))
	places := []Place{{0, rng.IntN(g), Previous}}
	taken := map[[2]int]bool{{0, places[0].Head}: true}
	add := func(l, h int, kind HeadKind) {
		taken[[2]int{l, h}] = true
		places = append(places, Place{l, h, kind})
	}
	order := rng.Perm(layers - 1)
	for i := range n.Induction {
		l, h := 1+order[i%len(order)], rng.IntN(g)
		for taken[[2]int{l, h}] {
			h = (h + 1) % g
		}
		add(l, h, Induction)
	}
	var free [][2]int
	for l := range layers {
		for h := range g {
			if !taken[[2]int{l, h}] {
				free = append(free, [2]int{l, h})
			}
		}
	}
	rng.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, k := range [...]struct {
		kind HeadKind
		n    int
	}{{Sink, n.Sink}, {Local, n.Local}, {Echo, n.Echo}} {
		for range k.n {
			add(free[0][0], free[0][1], k.kind)
			free = free[1:]
		}
	}
	return places
}

// Heads says which KV heads are of one of the kinds, [layer][KV head], and how many.
func (p *Planted) Heads(kinds ...HeadKind) (heads [][]bool, count int) {
	heads = make([][]bool, len(p.Kind))
	for l, row := range p.Kind {
		heads[l] = make([]bool, len(row))
		for g, is := range row {
			for _, k := range kinds {
				if is == k {
					heads[l][g] = true
					count++
				}
			}
		}
	}
	return heads, count
}
