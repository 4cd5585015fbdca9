// Package planfile is the envelope of a plan: what a compression was planned from, what every step decided, what happens
// to each tensor, and the exact layout of the result. It knows no step; decisions pass through as raw JSON. The file is
// canonical: equal plans have equal bytes, and the plan's id is a digest of those bytes.
//
// A plan holds no path, host name, clock, text or secret. Only the standard library is needed to read one.
package planfile

import "encoding/json"

// Format is the version of the plan file that this package reads and writes.
const Format = "compress-plan/v1"

// Plan is a whole plan. Fields whose name ends in Digest hold "sha256:" and 64 hex digits, WeightsDigest
// "tensors-v1:sha256:…"; fields called SHA256 hold the bare hex digits. Sizes are in bytes.
type Plan struct {
	Format string `json:"format"` // "compress-plan/v1"; Encode fills it in
	// PlanID is "sha256:" and the digest of the file without the line that holds it. Encode computes it, Decode
	// checks it.
	PlanID      string       `json:"plan_id"`
	Tool        Tool         `json:"tool"`
	DeviceClass string       `json:"device_class"` // what fixes the bits of computed results, such as "cpu-f32"
	Source      Source       `json:"source"`
	Calibration *Calibration `json:"calibration,omitempty"` // nil where no step looked at data
	Recipe      Recipe       `json:"recipe"`
	Targets     []Target     `json:"targets"`
	Steps       []Step       `json:"steps"`
	Gates       []Gate       `json:"gates"`
	Estimate    Estimate     `json:"estimate"`
	Changes     []Change     `json:"changes"` // one row per source tensor, sorted by its name
	Output      Output       `json:"output"`
}

// Tool names the program that made the plan.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Source is the fingerprint of the checkpoint that the plan is for.
type Source struct {
	Family        string   `json:"family"`
	Architecture  string   `json:"architecture"`
	ConfigDigest  string   `json:"config_digest"`
	WeightsDigest string   `json:"weights_digest"`
	HeadersDigest string   `json:"headers_digest,omitempty"`
	StoredBytes   int64    `json:"stored_bytes,omitempty"` // of the tensors in their files, where these hold them quantized; else 0
	Files         []File   `json:"files"`                  // side files (tokenizer, templates), sorted by name
	Tensors       []Tensor `json:"tensors"`                // sorted by name; each with its SHA256
}

// File is a side file of a checkpoint, by its name inside the directory.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Tensor is one stored tensor; the shape's outermost dimension comes first.
type Tensor struct {
	Name   string  `json:"name"`
	DType  string  `json:"dtype"`
	Shape  []int64 `json:"shape"`
	Bytes  int64   `json:"bytes"`
	SHA256 string  `json:"sha256,omitempty"` // of the data; known for sources only
}

// Calibration says which data the plan saw, by digest only.
type Calibration struct {
	Digest  string      `json:"digest"` // of the whole set
	Calib   *TokenSet   `json:"calib,omitempty"`
	Heldout *TokenSet   `json:"heldout,omitempty"`
	Prompts []PromptSet `json:"prompts,omitempty"`
}

// TokenSet is a set of token windows of one length.
type TokenSet struct {
	Digest    string `json:"digest"`
	Sequences int    `json:"sequences"`
	Length    int    `json:"length"` // tokens of the longest window
	Tokens    int64  `json:"tokens"` // tokens of all windows
}

// PromptSet is a set of retrieval prompts.
type PromptSet struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Count  int    `json:"count"`
	Length int    `json:"length"` // tokens of the longest prompt
}

// Recipe is what the user asked for: the digest of the recipe file and the settings in force once defaults are filled in.
type Recipe struct {
	Digest   string          `json:"digest"`
	Settings json.RawMessage `json:"settings"`
}

// Target is a runtime that the result was checked for.
type Target struct {
	Name       string      `json:"name"`
	Loads      bool        `json:"loads"`
	Violations []Violation `json:"violations,omitempty"`
	Notes      []string    `json:"notes,omitempty"`
}

// Violation is one loader rule that the result would break.
type Violation struct {
	Tensor string `json:"tensor,omitempty"`
	Rule   string `json:"rule"`
	Fix    string `json:"fix"`
}

// Step is one step of the plan with its decision. Version changes whenever the same decision would give other bytes.
type Step struct {
	Name     string          `json:"name"`
	Version  int             `json:"version"`
	Summary  string          `json:"summary"`
	Rows     []Row           `json:"rows,omitempty"`
	Decision json.RawMessage `json:"decision"`
}

// Row is one line of a step for people.
type Row struct {
	Mark  string `json:"mark"`  // "+", "-", "~", "±" or "="
	Scope string `json:"scope"` // such as "layers 0-5" or "42 tensors"
	Text  string `json:"text"`
	Delta int64  `json:"delta,omitempty"` // change of stored bytes
}

// Gate is a bound that the result has to keep, checked by apply.
type Gate struct {
	Metric string  `json:"metric"` // such as "perplexity_ratio"
	Op     string  `json:"op"`     // "<=" or ">="
	Bound  float64 `json:"bound"`
}

// Estimate is what apply will need.
type Estimate struct {
	PeakMemory int64 `json:"peak_memory"` // bytes resident
	Scratch    int64 `json:"scratch"`     // bytes on disk besides the output
}

// Change says what becomes of one source tensor. After is empty where it is dropped. A tensor that exists only in the
// result (an lm_head written out for tied embeddings) stands in the row of the tensor that it is made from.
type Change struct {
	Tensor string   `json:"tensor"`
	Reason string   `json:"reason"`         // machine-readable: lower-case words joined by _
	Step   string   `json:"step,omitempty"` // the last step that changes the data; "" where it is kept as it is
	Before Stored   `json:"before"`
	After  []Tensor `json:"after"`
}

// Stored is how a tensor is stored.
type Stored struct {
	DType string  `json:"dtype"`
	Shape []int64 `json:"shape"`
	Bytes int64   `json:"bytes"`
}

// Output is the exact layout of the result.
type Output struct {
	Format string `json:"format"` // "safetensors"
	// Quantization is the format of packed weights, such as "compressed-tensors/pack-quantized"; "" for none.
	Quantization string       `json:"quantization,omitempty"`
	TensorBytes  int64        `json:"tensor_bytes"` // data of all tensors
	FileBytes    int64        `json:"file_bytes"`   // all shards with their headers
	Shards       []Shard      `json:"shards"`
	Files        []OutputFile `json:"files"` // everything else, sorted by name
}

// Shard is one file of tensors.
type Shard struct {
	File        string   `json:"file"`
	Bytes       int64    `json:"bytes"`
	HeaderBytes int64    `json:"header_bytes"` // length prefix and header; tensor data starts here
	Tensors     []Placed `json:"tensors"`      // in the order of their offsets
}

// Placed is a tensor at its place in a shard.
type Placed struct {
	Name   string  `json:"name"`
	DType  string  `json:"dtype"`
	Shape  []int64 `json:"shape"`
	Offset int64   `json:"offset"` // from the start of the shard's data
	Bytes  int64   `json:"bytes"`
}

// OutputFile is a file of the result that holds no tensors.
type OutputFile struct {
	Name   string `json:"name"`
	Origin string `json:"origin"`           // "copied", "edited" or "written"
	SHA256 string `json:"sha256,omitempty"` // where known at plan time
}
