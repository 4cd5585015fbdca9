package kvmerge

import (
	"fmt"
	"math"
	"slices"

	"modelpress/internal/arch"
)

// layerMaps hands out the maps of the layers that are being read.
type layerMaps struct {
	m      *arch.Model
	layers []Layer
	load   func(layer int) (*Maps, error)
	recent[int, *Maps]
}

// get returns the maps of a layer.
func (c *layerMaps) get(l int) (*Maps, error) {
	return c.recent.get(l, func() (*Maps, error) {
		maps, err := c.load(l)
		if err != nil {
			return nil, err
		}
		return maps, maps.check(&c.m.Layers[l], c.layers[l].Groups)
	})
}

// check returns an error unless m are finite maps for a layer and its groups.
func (m *Maps) check(a *arch.Layer, groups Groups) error {
	if m == nil {
		return fmt.Errorf("there are none")
	}
	if s := m.Shape; s.H != a.H || s.G != a.G || s.K != a.K {
		return fmt.Errorf("they are for %d query heads, %d KV heads, head dim %d, not %d, %d, %d", s.H, s.G, s.K, a.H, a.G, a.K)
	}
	if !slices.EqualFunc(m.Groups, groups, slices.Equal[[]int]) {
		return fmt.Errorf("they are for groups %v, not %v", m.Groups, groups)
	}
	if n := a.Linears[arch.O].Out * a.H * a.K; m.Output != nil && len(m.Output) != n {
		return fmt.Errorf("an output projection of %d values, not %d", len(m.Output), n)
	}
	for _, v := range m.Output {
		if math.IsNaN(float64(v - v)) {
			return fmt.Errorf("the output projection has a value that is not finite")
		}
	}
	for _, side := range []struct {
		name string
		maps [][]float64
	}{{"key encoders", m.Key.Encode}, {"key decoders", m.Key.Decode}, {"value encoders", m.Value.Encode}, {"value decoders", m.Value.Decode}} {
		if len(side.maps) != a.G {
			return fmt.Errorf("%d %s of %d heads", len(side.maps), side.name, a.G)
		}
		for g, v := range side.maps {
			if len(v) != a.K*a.K {
				return fmt.Errorf("%s: head %d has %d values, not %d", side.name, g, len(v), a.K*a.K)
			}
			if !finite(v) {
				return fmt.Errorf("%s: head %d has a value that is not finite", side.name, g)
			}
		}
	}
	return nil
}
