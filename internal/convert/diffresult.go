package convert

import (
	"encoding/json"
)

// DifferenceSchema is the version of what a comparison says.
const DifferenceSchema = "compress-difference/v1"

// Difference is what a comparison of two models found. It holds no clock, host or path.
type Difference struct {
	Schema string `json:"schema"`
	A      Side   `json:"a"`
	B      Side   `json:"b"`
	// Equal: every tensor of either model that was not left out has the same bits in the other.
	Equal bool `json:"equal"`
	// Tensors are all that were compared, or that one model has only, by name.
	Tensors []TensorDifference `json:"tensors"`
	Ignored []string           `json:"ignored"` // tensors that were left out
	Config  []KeyDifference    `json:"config"`  // top-level keys of config.json that differ
	Files   []FileDifference   `json:"files"`   // side files of either model, all of them
	// AttentionPlan is nil where neither model carries one.
	AttentionPlan *PlanDifference `json:"attention_plan,omitempty"`
	Gates         []Gate          `json:"gates"`
}

// Side is what is said of one model as a whole.
type Side struct {
	Name         string `json:"name"`
	Format       string `json:"format"`
	Architecture string `json:"architecture"` // "" where the family is not known
	Tensors      int    `json:"tensors"`      // with plain values: a quantized weight is one
	Parameters   int64  `json:"parameters"`   // values of those
	Bytes        int64  `json:"bytes"`        // of all tensors as they are stored
	// BitsPerWeight is 8·Bytes/Parameters.
	BitsPerWeight float64 `json:"bits_per_weight"`
	// KVBytesToken is what a token occupies in the cache in bf16; 0 where the family is not known.
	KVBytesToken int64    `json:"kv_bytes_per_token"`
	Warnings     []string `json:"warnings"`
}

// What a comparison of one tensor found.
const (
	Equal      = "equal"   // every value has the same bits
	Changed    = "changed" // some values have not
	OtherShape = "shape"   // the shapes differ, values were not compared
	OtherType  = "type"    // one is of integers, so that bits and errors have no meaning
	OnlyInA    = "only_in_a"
	OnlyInB    = "only_in_b"
)

// TensorDifference is what was found of one tensor. Values of a weight that is quantized are those that the software of its format computes
// with; of two weights on integer grids they are (code - zero) * scale in f32.
type TensorDifference struct {
	Tensor string  `json:"tensor"` // its name in A, or in B where A has none
	Kind   string  `json:"kind"`   // what it is to the model: "q", "norm", "embedding"; "other"
	Status string  `json:"status"`
	A      *Stored `json:"a"` // nil where B has it only
	B      *Stored `json:"b"`
	// Values is the number of values compared, Changed those of them whose bits differ as float32, or as they are stored where that is wider,
	// SignOfZero those of Changed that are 0 and -0.
	Values     int64 `json:"values"`
	Changed    int64 `json:"changed"`
	SignOfZero int64 `json:"sign_of_zero"`
	// NaN and Inf count values of A and of B. Pairs with one of those are in none of the errors below; NotFinite counts those of them whose
	// bits differ.
	NaN       [2]int64 `json:"nan"`
	Inf       [2]int64 `json:"inf"`
	NotFinite int64    `json:"not_finite_changed"`
	// RelativeError is Σ(a-b)²/Σa²; null where that is no finite number (all of A is 0, and B is not), or nothing was compared.
	RelativeError *float64 `json:"relative_error"`
	MaxError      *float64 `json:"max_error"` // largest |a-b|
	Cosine        *float64 `json:"cosine"`    // null where one side is all 0
}

// Stored says how one side stores a tensor.
type Stored struct {
	Name  string  `json:"name"` // on this side
	Type  string  `json:"type"` // "BF16", "gptq int4 g128", "Q4_K"
	Shape []int64 `json:"shape"`
	Bytes int64   `json:"bytes"`
	Bits  float64 `json:"bits_per_weight"`
	Tied  bool    `json:"tied"` // it is the embedding, stored once; Bytes is 0
}

// KeyDifference is a top-level key of config.json with the values that it has; one is left out where a side has no such key.
type KeyDifference struct {
	Key string          `json:"key"`
	A   json.RawMessage `json:"a,omitempty"`
	B   json.RawMessage `json:"b,omitempty"`
}

// FileDifference is a side file of a model. Digests are "sha256:" and hexadecimal digits, "" where a side has no such file.
type FileDifference struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	A     string `json:"a"`
	B     string `json:"b"`
	Equal bool   `json:"equal"`
}

// PlanDifference compares the attention plans that two models carry, by digest: "" where one carries none. Two plans may be one and the same
// but for the model that they name, its digests, who made them and what was measured: SamePolicies.
type PlanDifference struct {
	A            string `json:"a"`
	B            string `json:"b"`
	Equal        bool   `json:"equal"`
	SamePolicies bool   `json:"same_policies"`
}
