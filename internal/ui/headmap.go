package ui

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"

	"modelpress/formats/manifest"
)

// HeadMap is an attention plan as a table of layers and KV heads, at one length and in one phase: what the terminal, an SVG file and the
// JSON view show of it.
type HeadMap struct {
	Architecture string       `json:"architecture"`
	Phase        string       `json:"phase"` // "decode" or "prefill"
	Length       int          `json:"length"`
	Policies     []MapPolicy  `json:"policies"`
	Layers       [][]MapCell  `json:"layers"` // [layer][KV head]; an empty row stands for a layer without attention
	Caches       []CacheShare `json:"cache"`
}

// MapPolicy is a policy that some head of the map has.
type MapPolicy struct {
	ID    string   `json:"id"`
	Kind  string   `json:"kind"`
	Text  string   `json:"text"`
	Heads int      `json:"heads"`
	Share *float64 `json:"share,omitempty"` // of the tokens of Length that it keeps; nil where only known at run time
}

// MapCell is one KV head.
type MapCell struct {
	Policy int      `json:"policy"` // index into Policies
	Score  *float64 `json:"score,omitempty"`
}

// CacheShare is the size of the KV cache under the plan at one length, in decoding.
type CacheShare struct {
	Length  int     `json:"length"`
	Planned int64   `json:"planned"` // bytes of 16-bit keys and values
	Dense   int64   `json:"dense"`
	Share   float64 `json:"share"`
}

// The largest map that is drawn: a few bytes of a plan can stand for more heads than fit anywhere. The bytes of so many heads of 65536 dimensions at
// MaxMapLength, rounded up to the largest page, stay below 2⁶³.
const (
	maxMapLayers = 4096
	maxMapHeads  = 1 << 14
	maxMapCaches = 24 // lengths that the cache is counted at

	// MaxMapLength is the longest sequence that sizes are counted for.
	MaxMapLength = 1 << 28
)

// ErrMapSize says that the plan has more layers or heads than a map can show.
var ErrMapSize = errors.New("too many heads to draw")

// NewHeadMap lays out a plan that is free of faults. length is the number of tokens that policies are resolved and sizes counted at, 1 to
// MaxMapLength; the cache is counted at it and at the lengths of the plan's budget. The error of a plan that is too large wraps ErrMapSize.
func NewHeadMap(p *manifest.Plan, phase manifest.Phase, length int) (*HeadMap, error) {
	if length < 1 || length > MaxMapLength {
		return nil, fmt.Errorf("ui: a map at %d tokens: want 1 to %d", length, MaxMapLength)
	}
	m := &HeadMap{Architecture: p.Model.Architecture, Phase: "decode", Length: length, Policies: []MapPolicy{}}
	if phase == manifest.Prefill {
		m.Phase = "prefill"
	}
	total := 0
	if p.Model.Layers <= maxMapLayers {
		for l := range p.Model.Layers {
			_, g := p.Counts(l)
			total += g
		}
	}
	if p.Model.Layers > maxMapLayers || total > maxMapHeads {
		return nil, fmt.Errorf("ui: %d layers: %w, at most %d in %d layers", p.Model.Layers, ErrMapSize, maxMapHeads, maxMapLayers)
	}
	scores := headScores(p)
	index := map[string]int{}
	for l := range p.Model.Layers {
		_, g := p.Counts(l)
		row := make([]MapCell, g)
		for h := range row {
			pol, id := p.Resolve(l, h, phase, length)
			if id == "" {
				id = "dense" // a prompt below min_seq
			}
			at, ok := index[id]
			if !ok {
				at = len(m.Policies)
				index[id] = at
				m.Policies = append(m.Policies, mapPolicy(id, pol, length))
			}
			m.Policies[at].Heads++
			row[h] = MapCell{Policy: at, Score: scores[[2]int{l, h}]}
		}
		m.Layers = append(m.Layers, row)
	}
	m.Caches = caches(p, length)
	return m, nil
}

func headScores(p *manifest.Plan) map[[2]int]*float64 {
	scores := map[[2]int]*float64{}
	for i := range p.Layers {
		for _, h := range p.Layers[i].KVHeads {
			if h.Score != nil {
				scores[[2]int{p.Layers[i].Layer, h.Head}] = h.Score
			}
		}
	}
	return scores
}

func mapPolicy(id string, p manifest.Policy, length int) MapPolicy {
	m := MapPolicy{ID: id, Kind: p.Kind, Text: policyText(&p)}
	if span := p.Span(length); span >= 0 && length > 0 {
		share := math.Min(1, float64(span)/float64(length))
		m.Share = &share
	}
	return m
}

// policyText says in few words what a head sees.
func policyText(p *manifest.Policy) string {
	switch p.Kind {
	case manifest.KindFull:
		return "every token"
	case manifest.KindStreaming:
		s := fmt.Sprintf("%d sinks, last %d", p.Sink, p.Recent)
		if p.Compensation {
			s += ", compensated"
		}
		return s
	case manifest.KindElastic:
		return fmt.Sprintf("%s + %s·N tokens, %d sinks of them, at least %d", short(p.Alpha), short(p.Beta), p.Sink, p.Min)
	case manifest.KindVerticalSlash:
		return fmt.Sprintf("%d columns, %d diagonals", p.Vertical, p.Slash)
	case manifest.KindBlockTopK:
		if p.Blocks > 0 {
			return fmt.Sprintf("%d blocks of %d by %s", p.Blocks, p.Block, p.Selector)
		}
		return fmt.Sprintf("blocks of %d by %s, %s of the mass", p.Block, p.Selector, short(p.Threshold))
	case manifest.KindTokenTopK:
		return fmt.Sprintf("%d tokens by %s, last %d", p.Budget, p.Selector, p.Window)
	case manifest.KindLocalStride:
		return fmt.Sprintf("%d blocks of %d, every %d. column", p.LocalBlocks, p.Block, p.VertStride)
	case manifest.KindPower:
		return fmt.Sprintf("%d sinks, %d blocks of %d and powers of two", p.Sink, p.LocalBlocks, p.Block)
	case manifest.KindSinkScaled:
		return fmt.Sprintf("every token, sinks after the first %d scaled by %s", p.Skip, short(p.Scale))
	}
	return "of a kind that this version does not know"
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }

// caches counts the cache in decoding at length and at the lengths that the plan's budget names, ascending. It is empty where sizes are only
// known at run time.
func caches(p *manifest.Plan, length int) []CacheShare {
	lengths := map[int]bool{length: true}
	if p.Budget != nil {
		for key := range p.Budget.KVBytesAt {
			if n, err := strconv.Atoi(key); err == nil && n <= MaxMapLength {
				lengths[n] = true
			}
		}
	}
	order := make([]int, 0, len(lengths))
	for n := range lengths {
		order = append(order, n)
	}
	sort.Ints(order)
	out := []CacheShare{}
	for _, n := range order[:min(len(order), maxMapCaches)] {
		const elementBytes = 2
		if planned, dense, ok := p.KVBytes(n, elementBytes); ok && dense > 0 {
			out = append(out, CacheShare{Length: n, Planned: planned, Dense: dense, Share: float64(planned) / float64(dense)})
		}
	}
	return out
}
