package planfile

import (
	"fmt"
	"math"
	"sort"
	"strings"
)

// Fault is one contradiction in a plan: where it stands and what is wrong.
type Fault struct {
	Path string // such as "output.shards[0].tensors[3]"
	Msg  string
}

func (f Fault) String() string { return f.Path + ": " + f.Msg }

// faultsError names the first few faults.
func faultsError(faults []Fault) error {
	const show = 5
	var lines []string
	for i, f := range faults {
		if i == show {
			lines = append(lines, fmt.Sprintf("and %d more", len(faults)-show))
			break
		}
		lines = append(lines, f.String())
	}
	return fmt.Errorf("planfile: %w: %s", ErrMalformed, strings.Join(lines, "; "))
}

// Validate returns every fault of the plan, sorted by path. A sound plan covers each source tensor by exactly one change, and
// its output holds exactly the tensors of the changes, without gaps, in the sizes that it states.
func (p *Plan) Validate() []Fault {
	v := &validator{}
	v.header(p)
	v.source(&p.Source)
	v.calibration(p.Calibration)
	v.steps(p)
	after := v.changes(p)
	v.output(&p.Output, after)
	sort.SliceStable(v.faults, func(i, j int) bool { return v.faults[i].Path < v.faults[j].Path })
	return v.faults
}

type validator struct{ faults []Fault }

func (v *validator) addf(path, format string, args ...any) {
	v.faults = append(v.faults, Fault{path, fmt.Sprintf(format, args...)})
}

func (v *validator) check(ok bool, path, format string, args ...any) {
	if !ok {
		v.addf(path, format, args...)
	}
}

func (v *validator) header(p *Plan) {
	v.check(p.Format == Format, "format", "want %q", Format)
	v.check(hasHex(p.PlanID, idPrefix), "plan_id", "want sha256: and 64 hex digits")
	v.check(p.Tool.Name != "", "tool.name", "is empty")
	v.digest("recipe.digest", p.Recipe.Digest)
	v.check(p.Estimate.PeakMemory >= 0, "estimate.peak_memory", "is negative")
	v.check(p.Estimate.Scratch >= 0, "estimate.scratch", "is negative")
	for i, t := range p.Targets {
		path := fmt.Sprintf("targets[%d]", i)
		v.check(t.Name != "", path, "has no name")
		v.check(t.Loads == (len(t.Violations) == 0), path, "loads is %t with %d violations", t.Loads, len(t.Violations))
		v.check(i == 0 || p.Targets[i-1].Name < t.Name, path, "targets are not sorted or not unique")
	}
	for i, g := range p.Gates {
		path := fmt.Sprintf("gates[%d]", i)
		v.check(g.Metric != "", path, "has no metric")
		v.check(g.Op == "<=" || g.Op == ">=", path, "op is %q, want <= or >=", g.Op)
		v.check(!math.IsNaN(g.Bound) && !math.IsInf(g.Bound, 0), path, "bound is not finite")
	}
}

func (v *validator) source(s *Source) {
	v.digest("source.config_digest", s.ConfigDigest)
	v.check(s.StoredBytes >= 0, "source.stored_bytes", "want at least 0")
	v.check(hasHex(s.WeightsDigest, "tensors-v1:sha256:"), "source.weights_digest", "want tensors-v1:sha256: and 64 hex digits")
	if s.HeadersDigest != "" {
		v.digest("source.headers_digest", s.HeadersDigest)
	}
	for i, f := range s.Files {
		path := fmt.Sprintf("source.files[%d]", i)
		v.fileName(path, f.Name)
		v.check(f.Bytes >= 0, path, "negative size")
		v.check(isHex64(f.SHA256), path, "sha256 is not 64 hex digits")
		v.check(i == 0 || s.Files[i-1].Name < f.Name, path, "files are not sorted or not unique")
	}
	for i, t := range s.Tensors {
		path := fmt.Sprintf("source.tensors[%d]", i)
		v.tensor(path, t.Name, t.DType, t.Shape, t.Bytes)
		v.check(isHex64(t.SHA256), path, "sha256 is not 64 hex digits")
		v.check(i == 0 || s.Tensors[i-1].Name < t.Name, path, "tensors are not sorted or not unique")
	}
}

func (v *validator) calibration(c *Calibration) {
	if c == nil {
		return
	}
	v.digest("calibration.digest", c.Digest)
	for _, s := range []struct {
		path string
		set  *TokenSet
	}{{"calibration.calib", c.Calib}, {"calibration.heldout", c.Heldout}} {
		if s.set == nil {
			continue
		}
		v.digest(s.path+".digest", s.set.Digest)
		v.check(s.set.Sequences >= 0 && s.set.Length >= 0 && s.set.Tokens >= 0, s.path, "negative count")
	}
	for i, s := range c.Prompts {
		path := fmt.Sprintf("calibration.prompts[%d]", i)
		v.check(s.Name != "", path, "has no name")
		v.digest(path+".digest", s.Digest)
		v.check(s.Count >= 0 && s.Length >= 0, path, "negative count")
	}
}

func (v *validator) steps(p *Plan) {
	seen := map[string]bool{}
	for i, s := range p.Steps {
		path := fmt.Sprintf("steps[%d]", i)
		v.check(isWord(s.Name), path, "name %q is not lower-case words joined by _", s.Name)
		v.check(!seen[s.Name], path, "step %s appears twice", s.Name)
		v.check(s.Version >= 1, path, "version %d, want at least 1", s.Version)
		seen[s.Name] = true
	}
	for i, c := range p.Changes {
		v.check(c.Step == "" || seen[c.Step], fmt.Sprintf("changes[%d]", i), "unknown step %q", c.Step)
	}
}

// changes checks the rows and returns every tensor that they leave.
func (v *validator) changes(p *Plan) map[string]Tensor {
	before := map[string]Tensor{}
	for _, t := range p.Source.Tensors {
		before[t.Name] = t
	}
	after := map[string]Tensor{}
	for i, c := range p.Changes {
		path := fmt.Sprintf("changes[%d]", i)
		src, ok := before[c.Tensor]
		v.check(ok, path, "tensor %q is not in the source", c.Tensor)
		v.check(!ok || sameStored(src, c.Before), path, "before differs from the source tensor %q", c.Tensor)
		v.check(isWord(c.Reason), path, "reason %q is not lower-case words joined by _", c.Reason)
		v.check(i == 0 || p.Changes[i-1].Tensor < c.Tensor, path, "changes are not sorted or not unique")
		for j, t := range c.After {
			at := fmt.Sprintf("%s.after[%d]", path, j)
			v.tensor(at, t.Name, t.DType, t.Shape, t.Bytes)
			_, dup := after[t.Name]
			v.check(!dup, at, "tensor %q is written twice", t.Name)
			after[t.Name] = t
		}
	}
	v.check(len(p.Changes) == len(p.Source.Tensors), "changes", "%d rows for %d source tensors", len(p.Changes), len(p.Source.Tensors))
	return after
}

func sameStored(t Tensor, s Stored) bool {
	return t.DType == s.DType && t.Bytes == s.Bytes && sameShape(t.Shape, s.Shape)
}

func sameShape(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (v *validator) output(o *Output, after map[string]Tensor) {
	v.check(o.Format != "", "output.format", "is empty")
	var data, files int64
	placed := map[string]bool{}
	for i, s := range o.Shards {
		path := fmt.Sprintf("output.shards[%d]", i)
		v.fileName(path, s.File)
		v.check(s.HeaderBytes > 0, path, "header_bytes is %d", s.HeaderBytes)
		off := int64(0)
		for j, t := range s.Tensors {
			at := fmt.Sprintf("%s.tensors[%d]", path, j)
			v.tensor(at, t.Name, t.DType, t.Shape, t.Bytes)
			want, ok := after[t.Name]
			v.check(ok, at, "tensor %q is in no change", t.Name)
			v.check(!ok || sameStored(want, Stored{t.DType, t.Shape, t.Bytes}), at, "tensor %q differs from its change", t.Name)
			v.check(!placed[t.Name], at, "tensor %q is placed twice", t.Name)
			v.check(t.Offset == off, at, "offset %d, want %d", t.Offset, off)
			placed[t.Name] = true
			off = addSize(off, t.Bytes)
		}
		v.check(s.Bytes == addSize(off, s.HeaderBytes), path, "%d bytes, header and tensors are %d", s.Bytes, addSize(off, s.HeaderBytes))
		data, files = addSize(data, off), addSize(files, s.Bytes)
	}
	v.check(len(placed) == len(after), "output.shards", "%d tensors placed, the changes leave %d", len(placed), len(after))
	v.check(o.TensorBytes == data, "output.tensor_bytes", "%d, the tensors have %d", o.TensorBytes, data)
	v.check(o.FileBytes == files, "output.file_bytes", "%d, the shards have %d", o.FileBytes, files)
	for i, f := range o.Files {
		path := fmt.Sprintf("output.files[%d]", i)
		v.fileName(path, f.Name)
		v.check(f.Origin == "copied" || f.Origin == "edited" || f.Origin == "written", path, "origin is %q", f.Origin)
		v.check(f.SHA256 == "" || isHex64(f.SHA256), path, "sha256 is not 64 hex digits")
		v.check(i == 0 || o.Files[i-1].Name < f.Name, path, "files are not sorted or not unique")
	}
}

// addSize adds sizes and stays at the largest value instead of wrapping round.
func addSize(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (v *validator) tensor(path, name, dtype string, shape []int64, bytes int64) {
	v.check(name != "", path, "has no name")
	v.check(dtype != "", path, "has no dtype")
	v.check(bytes >= 0, path, "negative size")
	for _, d := range shape {
		v.check(d >= 0, path, "negative dimension %d", d)
	}
}

func (v *validator) digest(path, s string) {
	v.check(hasHex(s, idPrefix), path, "want sha256: and 64 hex digits, got %.80q", s)
}

// fileName refuses names that lead anywhere but into the directory of the checkpoint. A slash may separate plain names.
func (v *validator) fileName(path, name string) {
	for part := range strings.SplitSeq(name, "/") {
		ok := part != "" && part != "." && part != ".." && !strings.ContainsAny(part, "\\:\x00")
		if !ok {
			v.addf(path, "%.80q is not a plain file name", name)
			return
		}
	}
}

func hasHex(s, prefix string) bool {
	return strings.HasPrefix(s, prefix) && isHex64(s[len(prefix):])
}

func isHex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// isWord reports whether s is lower-case letters, digits and underscores, starting with a letter.
func isWord(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
