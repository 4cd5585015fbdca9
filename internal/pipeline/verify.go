package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/internal/checkpoint"
)

// Verification is what verify found. Faults are sorted; none means that the result is what its report says.
type Verification struct {
	Report *Report
	Faults []string
	Files  int
	Bytes  int64
}

// maxReport bounds report.json, which has a line per matrix and file.
const maxReport = 256 << 20

// Verify checks a result against itself: every file against its digest, every shard with the strict reader, tensors
// against the configuration, the weights digest, and the attention plan against pointer and model. It finds all faults.
func Verify(ctx context.Context, dir string, env Env) (*Verification, error) {
	raw, err := readLimited(filepath.Join(dir, reportName), maxReport)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil, formats.Errorf(filepath.Base(dir), "", "is no result of this tool: it has no %s", reportName)
		}
		return nil, err
	}
	v := &Verification{}
	if v.Report, err = decodeReport(raw); err != nil {
		return nil, err
	}
	if err := v.files(ctx, dir); err != nil {
		return nil, err
	}
	if err := v.model(ctx, dir, env); err != nil {
		var bad *formats.Error
		if !errors.As(err, &bad) {
			return nil, err
		}
		v.addf("%v", err)
	}
	sort.Strings(v.Faults)
	return v, nil
}

func (v *Verification) addf(format string, args ...any) {
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
}

func (v *Verification) files(ctx context.Context, dir string) error {
	have, err := listFiles(ctx, dir)
	if err != nil {
		return err
	}
	found := map[string]fileSum{}
	for _, f := range have {
		found[f.Name] = f
		v.Files++
		v.Bytes += f.Bytes
	}
	for _, want := range v.Report.Files {
		f, ok := found[want.Name]
		switch {
		case !ok:
			v.addf("%s is missing", want.Name)
		case f != want:
			v.addf("%s has changed (%d bytes, sha256 %s; the report says %d, %s)", want.Name, f.Bytes, f.SHA256, want.Bytes, want.SHA256)
		}
		delete(found, want.Name)
	}
	for _, name := range sortedKeys(found) {
		v.addf("%s is not in the report", name)
	}
	return nil
}

// model opens the result as a runtime would and compares digests.
func (v *Verification) model(ctx context.Context, dir string, env Env) error {
	// A conversion may be of a model that nothing else here understands.
	s, err := checkpoint.Open(dir, checkpoint.Options{AllowRemoteCode: true, AnyModel: v.Report.Conversion != nil})
	if err != nil {
		return err
	}
	defer s.Close()
	digests, err := digest(ctx, s.Store, env, "verifying")
	if err != nil {
		return err
	}
	d := modelDigests{weights: hf.WeightsDigest(digests), headers: hf.HeadersDigest(s.Store.Tensors())}
	if d.config, err = configDigest(s.Config()); err != nil {
		return err
	}
	for _, c := range []struct{ what, have, want string }{
		{"weights digest", d.weights, v.Report.WeightsDigest},
		{"headers digest", d.headers, v.Report.HeadersDigest},
		{"config digest", d.config, v.Report.ConfigDigest},
	} {
		if c.have != c.want {
			v.addf("%s is %s, the report says %s", c.what, c.have, c.want)
		}
	}
	return v.attention(dir, s.Config(), d)
}

// attention checks the attention plan that config.json points to.
func (v *Verification) attention(dir string, config []byte, d modelDigests) error {
	ptr, err := planPointer(config)
	if ptr == nil {
		return err
	}
	if ptr.File != manifestName {
		v.addf("%s: attention_plan names the file %q, want %s", configName, ptr.File, manifestName)
		return nil
	}
	doc, err := readLimited(filepath.Join(dir, manifestName), manifest.MaxBytes)
	if err != nil {
		v.addf("the attention plan is lost: %v", err)
		return nil
	}
	if err := checkManifest(doc, *ptr, d); err != nil {
		v.addf("%s: %v", manifestName, err)
	}
	return nil
}

// readLimited reads a regular file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), errors.Unwrap(err))
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, formats.Errorf(filepath.Base(path), "", "is not a regular file of at most %d bytes", limit)
	}
	return os.ReadFile(path)
}
