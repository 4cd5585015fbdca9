package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/internal/checkpoint"
)

// conversionMark is the file by which a partial directory is known as one of a conversion, which starts anew.
const conversionMark = "conversion"

// OutputDir is a directory that a conversion writes: OUT.partial until it is whole.
type OutputDir struct {
	dir, work, out string
	lock           *os.File
}

// CheckOutputDir refuses a directory that CreateOutputDir would refuse, but for one that another process is writing now.
func CheckOutputDir(model, out string) error {
	_, err := outputDir(model, out)
	return err
}

// outputDir returns the names of a directory where nothing lies.
func outputDir(model, out string) (*OutputDir, error) {
	a := &applier{o: ApplyOptions{ModelDir: model, Out: out}}
	if err := a.checkPaths(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(a.o.Out); err == nil {
		return nil, errKind(KindExists, "choose another directory with -o, or remove it", "output %s exists", filepath.Base(out))
	}
	d := &OutputDir{dir: a.dir, work: a.work, out: a.o.Out}
	if !d.ours(filepath.Join(d.work, conversionMark)) {
		return nil, errKind(KindExists, "finish that run, remove the directory, or choose another one with -o", "%s is there and is not a conversion's", filepath.Base(d.dir))
	}
	return d, nil
}

// CreateOutputDir begins a directory for what is made of a model. What an interrupted conversion left there is removed; what lies
// at out already, or is being written, is KindExists.
func CreateOutputDir(model, out string) (*OutputDir, error) {
	d, err := outputDir(model, out)
	if err != nil {
		return nil, err
	}
	mark := filepath.Join(d.work, conversionMark)
	if err := os.MkdirAll(d.work, 0o755); err != nil {
		return nil, fmt.Errorf("pipeline: output: %w", formats.NoSpace(err))
	}
	if d.lock, err = lockFile(filepath.Join(d.work, lockName)); err != nil {
		return nil, err
	}
	// A run that held the lock until now may have put the output in place.
	if _, there := os.Lstat(d.out); there == nil {
		err = errKind(KindExists, "choose another directory with -o, or remove it", "output %s exists", filepath.Base(d.out))
	}
	if err == nil {
		err = d.empty()
	}
	if err == nil {
		err = formats.WriteFileAtomic(mark, nil)
	}
	if err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// ours reports whether the directory is not there, is a conversion's, or holds nothing yet.
func (d *OutputDir) ours(mark string) bool {
	if _, err := os.Lstat(mark); err == nil {
		return true
	}
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	inside, err := os.ReadDir(d.work)
	begun := func(e os.DirEntry) bool { return e.Name() == lockName || e.Name() == formats.TempName(conversionMark) }
	return len(list) == 0 || len(list) == 1 && list[0].Name() == workDir && err == nil &&
		!slices.ContainsFunc(inside, func(e os.DirEntry) bool { return !begun(e) })
}

// empty removes everything but the lock.
func (d *OutputDir) empty() error {
	list, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("pipeline: output: %w", err)
	}
	for _, e := range list {
		if e.Name() != workDir {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
		}
	}
	return err
}

// Dir is where the files go.
func (d *OutputDir) Dir() string { return d.dir }

// Discard removes what was written. It does nothing after Commit.
func (d *OutputDir) Discard() error {
	if d.lock == nil {
		return nil
	}
	// The mark goes last, so that what a process leaves that dies here is still known.
	err := errors.Join(d.empty(), os.RemoveAll(d.dir), d.lock.Close())
	d.lock = nil
	return err
}

// Converted is what a conversion wrote to a directory besides shards, index and side files.
type Converted struct {
	Model           string // that it was made of
	AllowRemoteCode bool
	Config          []byte            // config.json, without a pointer to an attention plan
	Digests         []hf.TensorDigest // of the tensors written, by name
	SourceHeaders   string
	BytesBefore     int64
	Tool            planfile.Tool
	Conversion      json.RawMessage // for the report
}

// Commit completes the directory: config.json, the attention plan of the model that it was made of, the report; then it is verified and
// gets its name by one rename.
func (d *OutputDir) Commit(ctx context.Context, c Converted, env Env) (*Report, error) {
	r := &Report{Schema: ReportSchema, Tool: c.Tool, WeightsDigest: hf.WeightsDigest(c.Digests), FellBack: []string{}, Gates: []gateResult{},
		Matrices: []tensorNote{}, BytesBefore: c.BytesBefore, Conversion: c.Conversion}
	infos := make([]formats.TensorInfo, len(c.Digests))
	for i, t := range c.Digests {
		infos[i] = t.TensorInfo
		n, err := t.Bytes()
		if err != nil {
			return nil, formats.Errorf("", t.Name, "%w", err)
		}
		r.BytesAfter += n
	}
	r.HeadersDigest = hf.HeadersDigest(infos)
	var err error
	if r.ConfigDigest, err = configDigest(c.Config); err != nil {
		return nil, err
	}
	config, err := d.attentionPlan(ctx, c, r, env)
	if err != nil {
		return nil, err
	}
	if err := formats.WriteFileAtomic(filepath.Join(d.dir, configName), config); err != nil {
		return nil, err
	}
	if r.Files, err = listFiles(ctx, d.dir); err != nil {
		return nil, err
	}
	raw, err := r.encode()
	if err != nil {
		return nil, err
	}
	if err := formats.WriteFileAtomic(filepath.Join(d.dir, reportName), raw); err != nil {
		return nil, err
	}
	return r, d.commit(ctx, r, env)
}

// attentionPlan writes the plan that lies beside the model, for the weights as they are now, and returns the configuration that
// points to it. What was measured with the weights as they were is not carried over.
func (d *OutputDir) attentionPlan(ctx context.Context, c Converted, r *Report, env Env) ([]byte, error) {
	if fi, err := os.Stat(c.Model); err != nil || !fi.IsDir() {
		return c.Config, nil
	}
	s, err := openSource(c.Model, c.AllowRemoteCode)
	if err != nil { // a model that is not understood, which no plan can be for
		if _, there := os.Lstat(filepath.Join(c.Model, manifestName)); there == nil {
			env.warn("%s is left out: %v", manifestName, err)
		}
		return c.Config, nil
	}
	defer s.close()
	p, err := readCarried(s)
	if p == nil || err != nil {
		return c.Config, err
	}
	was, err := digestsOf(ctx, s, env)
	if err != nil {
		return nil, err
	}
	r.SourceWeights = was.weights
	if err := p.CheckModel(was.weights, was.headers, was.config); err != nil {
		return nil, &Error{Kind: KindStale, Err: formats.Errorf(manifestName, "", "%w", err), Hint: "use the plan that lies beside these weights, or remove it from config.json"}
	}
	p.Schema, p.Quality = manifest.Schema, nil
	p.Producer.Name, p.Producer.Version = c.Tool.Name, c.Tool.Version
	p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest = r.WeightsDigest, r.HeadersDigest, r.ConfigDigest
	doc, err := manifest.Encode(p)
	if err != nil {
		return nil, err
	}
	if err := formats.WriteFileAtomic(filepath.Join(d.dir, manifestName), doc); err != nil {
		return nil, err
	}
	return hf.EditConfig(c.Config, []hf.KV{{Key: "attention_plan", Value: manifest.NewPointer(doc)}}, nil)
}

// commit compares what lies on disk with what was written, and gives the directory its name.
func (d *OutputDir) commit(ctx context.Context, r *Report, env Env) error {
	v := &Verification{Report: r}
	if err := v.model(ctx, d.dir, env); err != nil {
		return err
	}
	if len(v.Faults) > 0 {
		return &Error{Kind: KindGate, Err: fmt.Errorf("the written result does not verify: %s", strings.Join(v.Faults, "; ")), Hint: "convert again; if it happens again, the disk may be faulty"}
	}
	if err := formats.SyncDir(d.dir); err != nil {
		return err
	}
	if err := os.Rename(d.dir, d.out); err != nil {
		return errKind(KindExists, "remove what lies there and convert again", "commit: %w", err)
	}
	err := errors.Join(d.lock.Close(), os.RemoveAll(filepath.Join(d.out, workDir)), formats.SyncDir(d.out), formats.SyncDir(filepath.Dir(d.out)))
	d.lock = nil
	return err
}

// CarriedPlan returns the document of the attention plan that lies beside a model, nil where there is none. That its digests are those of the
// weights is not checked here.
func CarriedPlan(path string, c *checkpoint.Checkpoint) ([]byte, error) {
	if c.Format != checkpoint.FormatSafetensors {
		return nil, nil
	}
	p, err := readCarried(sourceOf(c))
	if p == nil || err != nil {
		return nil, err
	}
	return readLimited(filepath.Join(path, manifestName), manifest.MaxBytes)
}

// Abandon ends the work without removing what was written, as a killed process does.
func (d *OutputDir) Abandon() {
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}
