package importance

import (
	"context"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// Method names a measure of units.
type Method string

// The methods of [Score].
const (
	ByActivations Method = "minitron"  // [Activations]
	ByTaylor      Method = "taylor"    // [Taylor]
	ByMagnitude   Method = "magnitude" // [Magnitude]
	ByChance      Method = "random"    // [Random]
)

// Depth names a measure of layers.
type Depth string

// The measures of layers of [Score].
const (
	ByMethod     Depth = ""           // what the method says: for activations, influence
	ByInfluence  Depth = "influence"  // [BlockInfluence]
	ByPerplexity Depth = "perplexity" // [RemoveLayers]: by how much the loss rises
)

// Config says how [Score] measures.
type Config struct {
	Options
	Method          Method
	Depth           Depth       // of layers; random scores are random for layers too, whatever it is
	Batch, Sequence Aggregation // of activations
	Term            Term        // of a Taylor series
	Seed            uint64      // of random scores
}

// Score measures the units of a model by a method, and its layers by another where one is named. Memory is that of the measures, one
// after the other.
func Score(ctx context.Context, m *nn.Model, w calib.Windows, c Config) (*prune.Scores, error) {
	if c.Depth != ByMethod && c.Depth != ByInfluence && c.Depth != ByPerplexity {
		return nil, fmt.Errorf("importance: measure of layers %.40q is neither %q nor %q", string(c.Depth), ByInfluence, ByPerplexity)
	}
	second := c.Depth != ByMethod && c.Method != ByChance && (c.Method != ByActivations || c.Depth != ByInfluence)
	whole := c.Progress
	if second {
		c.Progress = part(whole, 0)
	}
	s, err := c.units(ctx, m, w)
	if err != nil || !second {
		return s, err
	}
	c.Progress = part(whole, 1)
	layers, err := c.layers(ctx, m, w)
	if err != nil {
		return nil, err
	}
	for l, v := range layers {
		s.Layers[l].Layer = v
	}
	return s, finite(s)
}

func (c *Config) units(ctx context.Context, m *nn.Model, w calib.Windows) (*prune.Scores, error) {
	switch c.Method {
	case ByActivations:
		return Activations(ctx, m, w, ActivationOptions{Options: c.Options, Batch: c.Batch, Sequence: c.Sequence})
	case ByTaylor:
		return Taylor(ctx, m, w, TaylorOptions{Options: c.Options, Term: c.Term})
	case ByMagnitude:
		return Magnitude(ctx, m, c.Progress)
	case ByChance:
		return Random(m.Arch, c.Seed), nil
	}
	return nil, fmt.Errorf("importance: method %.40q is none of %q, %q, %q and %q", string(c.Method), ByActivations, ByTaylor, ByMagnitude, ByChance)
}

func (c *Config) layers(ctx context.Context, m *nn.Model, w calib.Windows) ([]float64, error) {
	if c.Depth == ByInfluence {
		return BlockInfluence(ctx, m, w, c.Options)
	}
	r, err := RemoveLayers(ctx, m, w, c.Options)
	if err != nil {
		return nil, err
	}
	return r.Scores(), nil
}

// part maps the progress of the first (0) or second (1) of two measures to that of both, which count as the same.
func part(f func(done, total int), which int) func(done, total int) {
	if f == nil {
		return nil
	}
	return func(done, total int) { f(which*total+done, 2*total) }
}
