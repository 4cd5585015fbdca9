// Package convert writes a model in another format: another element type, other files, another way to store quantized weights. Where
// the codes of a weight carry over they are carried over, and what was written is read again and compared value by value; where they do
// not, the weight is quantized anew, which the result says together with its error.
//
// It also compares two models, tensor by tensor, in whatever formats they are: see Diff.
//
// A conversion first decides everything: how each tensor is stored and how large each file becomes. Then it streams tensors from
// the source into the result.
//
// Peak memory, for each of threads+1 workers: 8 MiB for tensors that are copied, cast or made of blocks; for a module that is packed its codes
// and what they are packed into, 2·out·in bytes and its scales, 5·out·in where codes are carried over and compared, 6·out·in for FP8 and FP4. All
// together at most 2 GiB, or what Env.MaxMemory leaves, but for a module that is larger alone.
package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"modelpress/formats/imatrix"
	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
)

// The formats of results.
const (
	Same        = "same"               // every tensor as it is stored: other files or names only
	Safetensors = "safetensors"        // plain weights
	Packed      = "compressed-tensors" // see Scheme
	GPTQ        = "gptq"
	GPTQv2      = "gptq_v2"
	AWQ         = "awq"
	GGUF        = "gguf" // see Type
)

var formatNames = []string{Same, Safetensors, Packed, GPTQ, GPTQv2, AWQ, GGUF}

// Options say what to convert into what.
type Options struct {
	Model string // directory or GGUF file
	Out   string // directory, or the file where Format is GGUF; "" to decide and write nothing
	// Format is one of the formats above.
	Format string
	// Scheme is how compressed-tensors stores weights: a preset's name, or "" to keep the grids that the weights are on.
	Scheme string
	// Type is the type of GGUF tensors: a type or mix of llama.cpp, or "" to keep grids and element types where GGUF has them.
	Type string
	// Bits, Group and Asymmetric are the grids that weights which are on none are quantized to; 0 for the format's usual ones. Given ones
	// also replace grids that are there.
	Bits, Group int
	Asymmetric  bool
	// DType is the type of tensors that are not quantized: "keep", "f32", "f16", "bf16".
	DType string
	// Ignore names modules that are not quantized: names, or re:<regular expression>. Each must be true of some module.
	Ignore []string
	// Rename changes names of tensors before anything looks at them.
	Rename []string
	// Head quantizes the output head too, where a format can.
	Head bool
	// Untie writes a tied output head as a tensor of its own; where Head is set, as codes.
	Untie bool
	// MaxShardBytes bounds the files of the result; 0 for one file each.
	MaxShardBytes int64
	// Lossless fails where a value would change.
	Lossless bool
	// Prove measures the error of every value, and not of one chunk in 16 where that takes longer than writing. Lossless does, too.
	Prove bool
	// Importance weights the errors of the blocks of Type; nil for none. Its names are those of GGUF tensors.
	Importance *imatrix.Matrix

	// Report is called with what the conversion says of itself, before the result has its place; nil for nothing. Its error fails the conversion.
	Report func(*Result) error

	AllowRemoteCode bool
	Threads         int // to compute with
	Tool            planfile.Tool
	Env             pipeline.Env

	found []string // what is odd about the model
}

// packs reports whether the format stores weights as codes.
func (o *Options) packs() bool { return slices.Contains([]string{Packed, GPTQ, GPTQv2, AWQ}, o.Format) }

// Check refuses options that do not belong together and a place where nothing can be written, before any work goes into it.
func (o *Options) Check() error {
	if err := o.check(); err != nil || o.Out == "" {
		return err
	}
	return o.checkOut()
}

func (o *Options) check() error {
	var f []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	add(!slices.Contains(formatNames, o.Format), "--to %q: known are %s", o.Format, strings.Join(formatNames, ", "))
	add(o.Scheme != "" && o.Format != Packed, "--scheme belongs to --to %s", Packed)
	add(o.Type != "" && o.Format != GGUF, "--type belongs to --to %s", GGUF)
	add(o.Importance != nil && (o.Format != GGUF || o.Type == ""), "importance weights the errors of GGUF blocks; it has no use without --to gguf --type TYPE")
	add(!(o.packs() && o.Scheme == "") && (o.Bits != 0 || o.Group != 0 || o.Asymmetric), "--bits, --group-size and --asymmetric belong to formats of codes on grids, and --scheme says them already")
	add(o.Bits != 0 && o.Bits != 2 && o.Bits != 3 && o.Bits != 4 && o.Bits != 8, "--bits %d: want 2, 3, 4 or 8", o.Bits)
	add(o.Group != 0 && o.Group != 32 && o.Group != 64 && o.Group != 128 && o.Group != -1, "--group-size %d: want 32, 64, 128 or -1 (whole rows)", o.Group)
	add(!slices.Contains([]string{"", "keep", "f32", "f16", "bf16"}, o.DType), "--dtype %q: want keep, f32, f16 or bf16", o.DType)
	add(o.DType != "" && o.DType != "keep" && (o.Format == Same || o.Format == GGUF), "--dtype has no effect with --to %s", o.Format)
	add(o.Format == Same && o.Untie, "--to same changes no tensor: leave --untie out")
	add(!o.packs() && (o.Head || len(o.Ignore) > 0), "--quantize-head and --ignore have no effect with --to %s", o.Format)
	add(o.Importance != nil && o.Type == "", "--calib weights the errors of blocks: name their type with --type")
	add(o.MaxShardBytes < 0 || o.MaxShardBytes > 0 && o.MaxShardBytes < 1<<20, "--max-shard-size: want at least 1MiB")
	if err := checkIgnore(o.Ignore); err != nil {
		add(true, "%v", err)
	}
	if len(f) > 0 {
		return &pipeline.Error{Kind: pipeline.KindUsage, Err: fmt.Errorf("convert: %s", strings.Join(f, "; "))}
	}
	return nil
}

// checkIgnore reports the first regular expression of a list that is none.
func checkIgnore(list []string) error {
	for _, s := range list {
		if re, ok := strings.CutPrefix(s, "re:"); ok {
			if _, err := regexp.Compile(re); err != nil {
				return fmt.Errorf("--ignore %q: %w", s, err)
			}
		}
	}
	return nil
}

// ignores reports whether a module is left out of quantization.
func (o *Options) ignores(module string) bool { return ignores(o.Ignore, module) }

// ignores reports whether a name is on a checked list: as it is, or by a regular expression that its beginning matches.
func ignores(list []string, name string) bool {
	for _, s := range list {
		if re, ok := strings.CutPrefix(s, "re:"); ok {
			if regexp.MustCompile("^(?:" + re + ")").MatchString(name) { // it was checked
				return true
			}
		} else if s == name {
			return true
		}
	}
	return false
}
