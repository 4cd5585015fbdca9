package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"sort"
)

// The kinds of policies of version 1.
const (
	KindFull          = "full"           // every earlier key
	KindStreaming     = "streaming"      // the first Sink keys and the last Recent (StreamingLLM, arXiv:2309.17453)
	KindElastic       = "elastic"        // a span that grows with the length (MoA, arXiv:2406.14909)
	KindVerticalSlash = "vertical_slash" // columns and diagonals found at run time (MInference, arXiv:2407.02490)
	KindBlockTopK     = "block_topk"     // blocks chosen at run time (XAttention, arXiv:2503.16428)
	KindTokenTopK     = "token_topk"     // tokens chosen at run time (SnapKV, arXiv:2404.14469)
	KindLocalStride   = "local_stride"   // local blocks and every n-th column of blocks (Phi-3-small, arXiv:2404.14219)
	KindPower         = "power"          // local blocks and those at distances that are powers of two (PowerAttention, arXiv:2503.03588)
	KindSinkScaled    = "sink_scaled"    // attention sinks past the first tokens turned down (ACT, arXiv:2406.15765)
)

// The selectors of block_topk and token_topk.
const (
	SelectXAttention = "xattention" // block_topk: sums along antidiagonals of a block
	SelectMeanPool   = "mean_pool"  // block_topk: products of mean queries and mean keys (MInference's block_sparse)
	SelectSnapKV     = "snapkv"     // token_topk: the votes of the prompt's last queries
	SelectAttention  = "attention"  // token_topk: the attention of one layer at each step (TidalDecode, arXiv:2410.05076)
)

// Policy says which keys a head sees besides causality. Which fields mean something depends on Kind; docs/MANIFEST.md has
// the table. Sizes count tokens.
type Policy struct {
	Kind string

	Sink         int  // streaming, elastic, power: leading tokens that are always seen
	Recent       int  // streaming: latest tokens, the query's own included
	Compensation bool // streaming: a mean of the dropped keys and values stands in for them (RazorAttention)

	Alpha  float64 // elastic: span = Alpha + Beta*length
	Beta   float64
	Block  int    // elastic, block_topk, local_stride, power: block size
	Min    int    // elastic: smallest span, sink included
	Length string // elastic: "prompt" or "prompt_plus_max_new"

	Vertical      int // vertical_slash: columns kept
	Slash         int // vertical_slash: diagonals kept
	LastQ         int // vertical_slash: last queries that estimate them
	ForceVertical int // vertical_slash: leading columns that are always kept
	ForceSlash    int // vertical_slash: nearest diagonals that are always kept

	Selector  string  // block_topk, token_topk: how blocks or tokens are scored
	Stride    int     // block_topk by xattention: stride of the antidiagonal sums
	Threshold float64 // block_topk by xattention: share of attention mass to keep; sink_scaled: mean attention that makes a sink
	Blocks    int     // block_topk by mean_pool: blocks of keys kept for each block of queries
	Budget    int     // token_topk: tokens kept
	Window    int     // token_topk: last queries that vote, always kept
	Pool      int     // token_topk: width of the pooling of votes, 0 for none

	LocalBlocks int // local_stride, power: nearest blocks
	VertStride  int // local_stride: every VertStride-th column of blocks
	Offset      int // local_stride: first such column

	Skip  int     // sink_scaled: leading tokens that are no such sinks
	Scale float64 // sink_scaled: what attention to a sink is multiplied by

	// raw keeps a policy of an unknown kind for writing it again; missing names absent fields of a known kind.
	raw     json.RawMessage
	missing []string
}

// Full returns the policy that sees every earlier key.
func Full() Policy { return Policy{Kind: KindFull} }

// Streaming returns the policy that sees the first sink and the last recent tokens, the query's own included.
func Streaming(sink, recent int) Policy {
	return Policy{Kind: KindStreaming, Sink: sink, Recent: recent}
}

// field is one JSON field of a kind.
type field struct {
	name     string
	ptr      func(*Policy) any // *int, *float64, *bool or *string
	optional bool
	min      int      // least value of an int
	oneOf    []string // allowed values of a string
}

var (
	fSink   = field{name: "sink", ptr: func(p *Policy) any { return &p.Sink }}
	fBlock  = field{name: "block", ptr: func(p *Policy) any { return &p.Block }, min: 1}
	fSelect = func(values ...string) field {
		return field{name: "selector", ptr: func(p *Policy) any { return &p.Selector }, oneOf: values}
	}
)

// kinds lists the fields of each kind in the order in which they are written.
var kinds = map[string][]field{
	KindFull: {},
	KindStreaming: {
		fSink,
		{name: "recent", ptr: func(p *Policy) any { return &p.Recent }, min: 1},
		{name: "compensation", ptr: func(p *Policy) any { return &p.Compensation }, optional: true},
	},
	KindElastic: {
		{name: "alpha", ptr: func(p *Policy) any { return &p.Alpha }},
		{name: "beta", ptr: func(p *Policy) any { return &p.Beta }},
		fSink, fBlock,
		{name: "min", ptr: func(p *Policy) any { return &p.Min }, min: 1},
		{name: "length", ptr: func(p *Policy) any { return &p.Length }, oneOf: []string{"prompt", "prompt_plus_max_new"}},
	},
	KindVerticalSlash: {
		{name: "vertical", ptr: func(p *Policy) any { return &p.Vertical }},
		{name: "slash", ptr: func(p *Policy) any { return &p.Slash }},
		{name: "last_q", ptr: func(p *Policy) any { return &p.LastQ }, min: 1},
		{name: "force_vertical", ptr: func(p *Policy) any { return &p.ForceVertical }, optional: true},
		{name: "force_slash", ptr: func(p *Policy) any { return &p.ForceSlash }, optional: true},
	},
	KindBlockTopK: {
		fBlock, fSelect(SelectXAttention, SelectMeanPool),
		{name: "stride", ptr: func(p *Policy) any { return &p.Stride }, optional: true},
		{name: "threshold", ptr: func(p *Policy) any { return &p.Threshold }, optional: true},
		{name: "blocks", ptr: func(p *Policy) any { return &p.Blocks }, optional: true},
	},
	KindTokenTopK: {
		fSelect(SelectSnapKV, SelectAttention),
		{name: "budget", ptr: func(p *Policy) any { return &p.Budget }, min: 1},
		{name: "window", ptr: func(p *Policy) any { return &p.Window }, min: 1},
		{name: "pool", ptr: func(p *Policy) any { return &p.Pool }, optional: true},
	},
	KindLocalStride: {
		fBlock,
		{name: "local_blocks", ptr: func(p *Policy) any { return &p.LocalBlocks }, min: 1},
		{name: "vert_stride", ptr: func(p *Policy) any { return &p.VertStride }, min: 1},
		{name: "offset", ptr: func(p *Policy) any { return &p.Offset }, optional: true},
	},
	KindPower: {
		fSink, fBlock,
		{name: "local_blocks", ptr: func(p *Policy) any { return &p.LocalBlocks }, min: 1},
	},
	KindSinkScaled: {
		{name: "skip", ptr: func(p *Policy) any { return &p.Skip }},
		{name: "threshold", ptr: func(p *Policy) any { return &p.Threshold }},
		{name: "scale", ptr: func(p *Policy) any { return &p.Scale }},
	},
}

// KnownKinds returns the kinds of version 1, sorted.
func KnownKinds() []string {
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

// Known reports whether the kind is one of version 1.
func (p *Policy) Known() bool { _, ok := kinds[p.Kind]; return ok }

// MarshalJSON writes the fields of the kind.
func (p Policy) MarshalJSON() ([]byte, error) {
	fields, ok := kinds[p.Kind]
	if !ok && p.raw != nil {
		return p.raw, nil
	}
	var b bytes.Buffer
	b.WriteString(`{"kind":`)
	if err := appendJSON(&b, p.Kind); err != nil {
		return nil, err
	}
	for _, f := range fields {
		ptr := f.ptr(&p)
		if f.optional && isZero(ptr) {
			continue
		}
		fmt.Fprintf(&b, ",%q:", f.name)
		if err := appendJSON(&b, ptr); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func appendJSON(b *bytes.Buffer, v any) error {
	data, err := marshal(v)
	b.Write(data)
	return err
}

func isZero(ptr any) bool {
	switch v := ptr.(type) {
	case *int:
		return *v == 0
	case *float64:
		return *v == 0
	case *bool:
		return !*v
	case *string:
		return *v == ""
	}
	return false
}

// UnmarshalJSON reads the fields of the kind and ignores others. An unknown kind is kept as it stands.
func (p *Policy) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*p = Policy{}
	if err := json.Unmarshal(orNull(raw["kind"]), &p.Kind); err != nil {
		return fmt.Errorf("kind: %w", err)
	}
	fields, ok := kinds[p.Kind]
	if !ok {
		var err error
		p.raw, err = canonical(data)
		return err
	}
	for _, f := range fields {
		v, ok := raw[f.name]
		if !ok || string(v) == "null" {
			if !f.optional {
				p.missing = append(p.missing, f.name)
			}
			continue
		}
		if err := json.Unmarshal(v, f.ptr(p)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// validate reports fields that are missing or out of range.
func (p *Policy) validate(v *validator, path string) {
	if p.Kind == "" {
		v.addf(path, "has no kind")
		return
	}
	missing := map[string]bool{}
	for _, name := range p.missing {
		missing[name] = true
		v.addf(path+"."+name, "is missing")
	}
	for _, f := range kinds[p.Kind] {
		if missing[f.name] {
			continue
		}
		at := path + "." + f.name
		switch x := f.ptr(p).(type) {
		case *int:
			v.check(*x >= f.min && *x <= maxTokens, at, "%d is not in %d..%d", *x, f.min, maxTokens)
		case *float64:
			v.check(!math.IsNaN(*x) && !math.IsInf(*x, 0), at, "is not finite")
		case *string:
			v.check(contains(f.oneOf, *x), at, "%q is none of %v", *x, f.oneOf)
		}
	}
	switch {
	case p.Kind == KindBlockTopK && p.Selector == SelectMeanPool:
		v.check(p.Blocks >= 1, path+".blocks", "%d is not at least 1", p.Blocks)
	case p.Kind == KindBlockTopK:
		v.check(p.Stride >= 1, path+".stride", "%d is not at least 1", p.Stride)
		v.check(p.Threshold > 0 && p.Threshold <= 1, path+".threshold", "%v is not in (0, 1]", p.Threshold)
	case p.Kind == KindSinkScaled:
		v.check(p.Threshold > 0 && p.Threshold <= 1 || missing["threshold"], path+".threshold", "%v is not in (0, 1]", p.Threshold)
		v.check(p.Scale >= 0 && p.Scale <= 1, path+".scale", "%v is not in [0, 1]", p.Scale)
	case p.Kind == KindElastic && !missing["beta"]:
		v.check(p.Beta >= 0 && p.Beta <= 1, path+".beta", "%v is not in [0, 1]", p.Beta)
	}
}

// Span returns how many tokens of a sequence the policy keeps in the cache once length tokens are processed, sinks
// included, or -1 where that is only known at run time. Length is what Policy.Length says for elastic policies. A policy that
// chooses anew at each step, or that may come back to any key, keeps all of them.
func (p *Policy) Span(length int) int {
	switch p.Kind {
	case KindFull, KindSinkScaled, KindPower:
		return length
	case KindStreaming:
		return min(length, p.Sink+p.Recent)
	case KindElastic:
		// MoA, arXiv:2406.14909: span alpha + beta*N, in whole blocks, never below min.
		span := math.Max(p.Alpha+float64(p.Beta*float64(length)), float64(p.Min))
		blocks := math.Ceil(span / float64(p.Block))
		return int(math.Min(float64(length), blocks*float64(p.Block)))
	case KindTokenTopK:
		if p.Selector == SelectAttention {
			return length
		}
		return min(length, max(p.Budget, p.Window))
	case KindLocalStride:
		return p.strideSpan(length)
	}
	return -1
}

// strideSpan counts the tokens in the local blocks of the last query and in the columns of blocks before them.
func (p *Policy) strideSpan(length int) int {
	if length < 1 {
		return 0
	}
	far := max(0, (length-1)/p.Block+1-p.LocalBlocks) // blocks before the local ones
	columns := 0
	if far > p.Offset {
		columns = (far-p.Offset-1)/p.VertStride + 1
	}
	return length - (far-columns)*p.Block
}
