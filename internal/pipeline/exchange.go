package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
)

// PlanCheck is what is said of an attention plan.
type PlanCheck struct {
	Digest   string   `json:"digest"` // of the document's bytes
	Faults   []string `json:"faults"`
	Compared bool     `json:"compared"` // with the digests of a checkpoint
	Layers   int      `json:"layers"`
	KVHeads  int      `json:"kv_heads"`   // of all layers
	Full     int      `json:"full_heads"` // that decode over everything, at the model's context
	Requires []string `json:"requires"`
}

// CheckPlan reads an attention plan and lists every fault of it. path is the document, or a directory that it lies in; there the
// pointer of config.json is compared too. With a modelDir, the weights, headers and configuration of that checkpoint are hashed and
// compared with the plan's digests: a difference is KindStale. A document that cannot be read as one is KindInput.
func CheckPlan(ctx context.Context, path, modelDir string, allowRemoteCode bool, env Env) (*PlanCheck, error) {
	doc, err := readPlanDocument(path)
	if err != nil {
		return nil, err
	}
	p, err := manifest.Parse(doc)
	if err != nil {
		return nil, errKind(KindInput, "", "%w", err)
	}
	c := &PlanCheck{Digest: sumDigest(doc), Faults: []string{}, Layers: p.Model.Layers, Requires: p.Requires}
	for _, f := range p.Validate() {
		c.Faults = append(c.Faults, f.String())
	}
	if len(c.Faults) > 0 {
		return c, nil
	}
	c.Full, c.KVHeads = p.FullHeads(p.Model.MaxPosition)
	if modelDir == "" {
		return c, nil
	}
	s, err := openSource(modelDir, allowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	d, err := digestsOf(ctx, s, env)
	if err != nil {
		return nil, err
	}
	if err := p.CheckModel(d.weights, d.headers, d.config); err != nil {
		return nil, &Error{Kind: KindStale, Err: err, Hint: "use the plan that lies beside these weights"}
	}
	c.Compared = true
	return c, nil
}

// readPlanDocument reads an attention plan from a file, or from a directory in which config.json may point to it.
func readPlanDocument(path string) ([]byte, error) {
	file := path
	fi, err := os.Stat(path)
	isDir := err == nil && fi.IsDir()
	if isDir {
		file = filepath.Join(path, manifestName)
	}
	doc, err := readLimited(file, manifest.MaxBytes)
	if err != nil {
		return nil, errKind(KindInput, "", "attention plan: %w", err)
	}
	if !isDir {
		return doc, nil
	}
	raw, err := readLimited(filepath.Join(path, configName), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, nil
	}
	if err != nil {
		return nil, err
	}
	ptr, err := planPointer(raw)
	if err != nil {
		return nil, errKind(KindInput, "", "%w", err)
	}
	if ptr != nil {
		if err := ptr.Check(doc); err != nil {
			return nil, &Error{Kind: KindStale, Err: err, Hint: "restore the plan that was written with these weights"}
		}
	}
	return doc, nil
}

// maxConfig bounds a config.json that is only looked into for its pointer.
const maxConfig = 64 << 20

// digestsOf hashes a checkpoint.
func digestsOf(ctx context.Context, s *source, env Env) (modelDigests, error) {
	digests, err := digest(ctx, s.ck, env, "reading weights")
	if err != nil {
		return modelDigests{}, err
	}
	d := modelDigests{weights: hf.WeightsDigest(digests), headers: headersDigest(s)}
	d.config, err = configDigest(s.ck.Config())
	return d, err
}

// ExportPlan writes an attention plan, a file or beside weights, in another format. Faults and losses that are not allowed
// are KindInput.
func ExportPlan(path string, f *manifest.Format, o manifest.Options) (*manifest.Exported, error) {
	doc, err := readPlanDocument(path)
	if err != nil {
		return nil, err
	}
	p, err := manifest.Decode(doc)
	if err != nil {
		return nil, errKind(KindInput, "", "%w", err)
	}
	out, err := f.Export(p, o)
	if errors.Is(err, manifest.ErrLossy) {
		return nil, &Error{Kind: KindInput, Err: err, Hint: "add --lossy to convert all the same, or choose another format"}
	}
	if err != nil {
		return nil, errKind(KindInput, "", "%w", err)
	}
	return out, nil
}

// ImportPlanOptions say what to import for which checkpoint.
type ImportPlanOptions struct {
	Path            string // a file, or the directory of a format that has several
	Format          *manifest.Format
	ModelDir        string
	AllowRemoteCode bool
	Options         manifest.Options
	Tool            planfile.Tool
	Env             Env
}

// ImportPlan reads a plan in another format for a checkpoint, whose weights are hashed for the digests, and returns the document too.
func ImportPlan(ctx context.Context, o ImportPlanOptions) (*manifest.Imported, []byte, error) {
	files, err := readExchange(o.Path, o.Format)
	if err != nil {
		return nil, nil, err
	}
	s, err := openSource(o.ModelDir, o.AllowRemoteCode)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	model := heads.Draft(s.arch)
	model.Producer.Name, model.Producer.Version = o.Tool.Name, o.Tool.Version
	model.Model.Rope = manifestRope(s)
	// The digests of the model are hashed last: a file that does not fit is found out before.
	model.Model.WeightsDigest = placeholderDigest
	in, err := o.Format.Import(files, model, o.Options)
	if err != nil {
		return nil, nil, errKind(KindInput, "", "%w", err)
	}
	d, err := digestsOf(ctx, s, o.Env)
	if err != nil {
		return nil, nil, err
	}
	m := &in.Plan.Model
	m.WeightsDigest, m.HeadersDigest, m.ConfigDigest = d.weights, d.headers, d.config
	doc, err := manifest.Encode(in.Plan)
	if err != nil {
		return nil, nil, errKind(KindInput, "", "%w", err)
	}
	return in, doc, nil
}

// placeholderDigest has the form of a weights digest.
var placeholderDigest = "tensors-v1:sha256:" + strings.Repeat("0", 64)

// readExchange reads the files of a format: those that it names from a directory, or a single one whatever it is called.
func readExchange(path string, f *manifest.Format) ([]manifest.File, error) {
	names := []string{filepath.Base(path)}
	dir := filepath.Dir(path)
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		names, dir = strings.Split(f.Files, ", "), path
	} else if err == nil && f.Dir {
		return nil, errKind(KindInput, "", "format %s: %s is no directory with %s", f.Name, path, f.Files)
	}
	var files []manifest.File
	for _, n := range names {
		data, err := readLimited(filepath.Join(dir, n), manifest.MaxImportBytes)
		if err != nil {
			return nil, errKind(KindInput, "", "format %s: %w", f.Name, err)
		}
		files = append(files, manifest.File{Name: n, Data: data})
	}
	return files, nil
}

// FormatNamed returns a format of attention plans; an unknown name is KindUsage and lists those that there are.
func FormatNamed(name string) (*manifest.Format, error) {
	if f := manifest.FormatByName(name); f != nil {
		return f, nil
	}
	var names []string
	for _, f := range manifest.Formats() {
		names = append(names, f.Name)
	}
	return nil, errKind(KindUsage, "", "format %q: known are %s", name, strings.Join(names, ", "))
}
