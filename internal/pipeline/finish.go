package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/manifest"
)

// finish adds everything that is not a tensor, judges the result, verifies it, and commits it by one rename.
func (a *applier) finish(ctx context.Context) error {
	if err := a.writer.Close(); err != nil {
		return err
	}
	a.writer = nil
	if err := a.sideFiles(); err != nil {
		return err
	}
	digests, err := a.resultDigests(ctx)
	if err != nil {
		return err
	}
	if err := a.checkJournal(digests); err != nil {
		return err
	}
	q, err := a.judgeResult(ctx)
	if err != nil {
		return err
	}
	d := modelDigests{weights: hf.WeightsDigest(digests), headers: hf.HeadersDigest(tensorInfos(a.outs))}
	if err := a.documents(&d, q); err != nil {
		return err
	}
	if err := a.writeReport(ctx, d, q); err != nil {
		return err
	}
	if err := a.s.ck.CheckUnchanged(); err != nil {
		return err
	}
	if err := a.gate(); err != nil {
		return err
	}
	return a.commit(ctx)
}

// sideFiles copies tokenizer and templates, and writes config.json as far as the attention plan does not change it.
func (a *applier) sideFiles() error {
	for _, f := range a.s.ck.Files() {
		if skippedSide(f.Name) {
			continue
		}
		if _, err := a.s.ck.CopyFile(a.dir, f.Name); err != nil {
			return err
		}
	}
	if len(a.plan.Output.Shards) > 1 {
		if err := formats.WriteFileAtomic(filepath.Join(a.dir, indexName), a.layout.Index()); err != nil {
			return err
		}
	}
	for name, data := range a.q.configFiles() {
		if err := formats.WriteFileAtomic(filepath.Join(a.dir, name), data); err != nil {
			return err
		}
	}
	config, err := a.config(nil)
	if err != nil {
		return err
	}
	return formats.WriteFileAtomic(filepath.Join(a.dir, configName), config)
}

// config returns config.json of the result; ptr is nil before there is an attention plan.
func (a *applier) config(ptr *manifest.Pointer) ([]byte, error) {
	set, err := a.s.configEdits(a.viewed, a.pr.layers(), a.q)
	if err != nil {
		return nil, err
	}
	if ptr != nil {
		set = append(set, hf.KV{Key: "attention_plan", Value: ptr})
	}
	if len(set) == 0 {
		return a.s.ck.Config(), nil
	}
	return hf.EditConfig(a.s.ck.Config(), set, nil)
}

// resultDigests re-opens the written shards with the strict reader and hashes every tensor.
func (a *applier) resultDigests(ctx context.Context) ([]hf.TensorDigest, error) {
	ck, err := openSource(a.dir, true)
	if err != nil {
		return nil, fmt.Errorf("pipeline: the written result does not open: %w", err)
	}
	digests, err := digest(ctx, ck.ck, a.o.Env, "verifying what was written")
	return digests, errors.Join(err, ck.close())
}

// checkJournal compares the hashes of what lies on disk with those of what was written.
func (a *applier) checkJournal(digests []hf.TensorDigest) error {
	wrote := map[string]string{}
	for _, e := range a.journal.done {
		for name, sum := range e.Tensors {
			wrote[name] = sum
		}
	}
	var f faults
	for _, d := range digests {
		f.add(wrote[d.Name] != d.SHA256, "tensor %q on disk is not what was written", d.Name)
	}
	f.add(len(wrote) != len(digests), "%d tensors were written, %d lie on disk", len(wrote), len(digests))
	if len(f) > 0 {
		return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: "remove the .partial directory and apply again"}
	}
	return nil
}

// judgeResult measures the written result on the held-out side.
func (a *applier) judgeResult(ctx context.Context) (*quality, error) {
	if a.set == nil || len(a.set.set.Heldout.IDs) == 0 {
		return nil, nil
	}
	res, err := openSource(a.dir, true)
	if err != nil {
		return nil, err
	}
	src, m := a.o.Env.model(a.s), a.o.Env.model(res)
	defer src.Release()
	defer m.Release()
	q, err := measure(ctx, src, m, a.h, a.set, a.o.Env)
	return q, errors.Join(err, res.close())
}

// documents writes the attention plan and, pointing to it, the final config.json. The config digest leaves the pointer out.
func (a *applier) documents(d *modelDigests, q *quality) error {
	plain, err := a.config(nil)
	if err != nil {
		return err
	}
	if d.config, err = configDigest(plain); err != nil {
		return err
	}
	if a.h != nil {
		doc, err := manifest.Encode(attentionPlan(a.h, *d, a.plan.Tool, a.plan.PlanID, q, a.recipe.Gates))
		if err != nil {
			return err
		}
		if err := formats.WriteFileAtomic(filepath.Join(a.dir, manifestName), doc); err != nil {
			return err
		}
		ptr := manifest.NewPointer(doc)
		if plain, err = a.config(&ptr); err != nil {
			return err
		}
		if err := formats.WriteFileAtomic(filepath.Join(a.dir, configName), plain); err != nil {
			return err
		}
	}
	return formats.WriteFileAtomic(filepath.Join(a.dir, planName), a.o.PlanBytes)
}

func (a *applier) writeReport(ctx context.Context, d modelDigests, q *quality) error {
	if err := a.sweep(); err != nil {
		return err
	}
	files, err := listFiles(ctx, a.dir)
	if err != nil {
		return err
	}
	if err := a.checkFiles(files); err != nil {
		return err
	}
	before, after := a.plan.Totals()
	sort.SliceStable(a.notes, func(i, j int) bool { return a.notes[i].Tensor < a.notes[j].Tensor })
	r := &Report{Schema: ReportSchema, PlanID: a.plan.PlanID, Tool: a.plan.Tool, DeviceClass: a.plan.DeviceClass,
		SourceWeights: a.plan.Source.WeightsDigest, WeightsDigest: d.weights, HeadersDigest: d.headers, ConfigDigest: d.config,
		BytesBefore: before, BytesAfter: after, FellBack: []string{}, Gates: judge(a.plan.Gates, q), Quality: q, Sparsity: sparsityOf(a.sp, a.notes), Matrices: a.notes, Files: files}
	if r.Matrices == nil {
		r.Matrices = []tensorNote{}
	}
	for _, n := range a.notes {
		if n.FellBack != "" {
			r.FellBack = append(r.FellBack, n.Tensor)
		}
	}
	b, err := r.encode()
	if err != nil {
		return err
	}
	a.report = r
	return formats.WriteFileAtomic(filepath.Join(a.dir, reportName), b)
}

// sweep removes the temporary siblings that a killed run left of files that are there whole by now, or are yet to come.
func (a *applier) sweep() error {
	var errs []error
	for _, s := range a.plan.Output.Shards {
		errs = append(errs, removeIfThere(formats.TempName(filepath.Join(a.dir, s.File))))
	}
	for _, f := range a.plan.Output.Files {
		errs = append(errs, removeIfThere(formats.TempName(filepath.Join(a.dir, filepath.FromSlash(f.Name)))))
	}
	return errors.Join(errs...)
}

// checkFiles compares the files of the result with those that the plan promises, but for the report, which comes last.
func (a *applier) checkFiles(files []fileSum) error {
	want := map[string]string{}
	for _, s := range a.plan.Output.Shards {
		want[s.File] = ""
	}
	for _, f := range a.plan.Output.Files {
		if f.Name != reportName {
			want[f.Name] = f.SHA256
		}
	}
	var f faults
	for _, have := range files {
		sum, ok := want[have.Name]
		f.add(!ok, "file %q is not in the plan", have.Name)
		f.add(ok && sum != "" && sum != have.SHA256, "file %q is not what the plan says", have.Name)
		delete(want, have.Name)
	}
	for _, name := range sortedKeys(want) {
		f.add(true, "file %q is missing", name)
	}
	if len(f) > 0 {
		return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: "remove the .partial directory and apply again"}
	}
	return nil
}

// gate fails a result that breaks its bounds. It stays in the partial directory for inspection and is not committed.
func (a *applier) gate() error {
	var f faults
	for _, g := range a.report.Gates {
		f.add(!g.Passed, "gate %s: %s, want %s %v", g.Metric, orUnmeasured(string(g.Value)), g.Op, g.Bound)
	}
	if a.o.Strict {
		for _, t := range a.report.FellBack {
			f.add(true, "tensor %q fell back to %s (--strict)", t, a.report.Plainer())
		}
	}
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindGate, Err: sortedJoin(f), Hint: fmt.Sprintf("see %s%s/%s, change the recipe and plan again", filepath.Base(a.o.Out), partialSuffix, reportName)}
}

func orUnmeasured(v string) string {
	if v == "" {
		return "not measured"
	}
	return v
}

// commit verifies the directory as a whole, renames it into place, and drops the working files.
func (a *applier) commit(ctx context.Context) error {
	v, err := Verify(ctx, a.dir, a.o.Env)
	if err != nil {
		return err
	}
	if len(v.Faults) > 0 {
		return &Error{Kind: KindGate, Err: fmt.Errorf("the written result does not verify: %s", strings.Join(v.Faults, "; ")), Hint: "remove the .partial directory and apply again"}
	}
	if err := formats.SyncDir(a.dir); err != nil {
		return err
	}
	if err := os.Rename(a.dir, a.o.Out); err != nil {
		return errKind(KindExists, "remove what lies there and apply again", "commit: %w", err)
	}
	// Lock and journal go along until the output has its name: at no moment is there a partial output without them.
	return errors.Join(a.release(), os.RemoveAll(filepath.Join(a.o.Out, workDir)), formats.SyncDir(a.o.Out), formats.SyncDir(filepath.Dir(a.o.Out)))
}

// listFiles hashes every regular file below dir but the report and the working files.
func listFiles(ctx context.Context, dir string) ([]fileSum, error) {
	var list []fileSum
	dir, err := filepath.EvalSymlinks(dir) // a walk does not follow a link, not even at its start
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if rel == workDir {
				return filepath.SkipDir
			}
			return nil
		}
		if rel == reportName {
			return nil
		}
		f := fileSum{Name: filepath.ToSlash(rel)}
		if e.Type().IsRegular() { // anything else has no digest and so equals nothing
			f.SHA256, f.Bytes, err = hashFile(ctx, path)
		}
		list = append(list, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

func hashFile(ctx context.Context, path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	var size int64
	for buf := make([]byte, 1<<20); ; {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), size, nil
		}
		if err != nil {
			return "", 0, err
		}
	}
}
