package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/planfile"
	"modelpress/internal/checkpoint"
)

// fingerprint hashes every tensor and side file of a checkpoint, and refuses weights that are not finite, in one read of
// the files.
//
// Peak memory: a few MiB per thread, plus the list of tensors.
func fingerprint(ctx context.Context, s *source, env Env) (planfile.Source, error) {
	digests, err := digest(ctx, finite{s.ck, &sync.Pool{}}, env, "reading weights")
	if err != nil {
		return planfile.Source{}, err
	}
	out := planfile.Source{Family: s.arch.Family, Architecture: s.arch.Architecture, ConfigDigest: sumDigest(s.ck.Config()),
		WeightsDigest: hf.WeightsDigest(digests), HeadersDigest: hf.HeadersDigest(s.ck.Tensors())}
	shown := int64(0)
	for _, d := range digests {
		t, err := fileTensor(d.TensorInfo)
		if err != nil {
			return planfile.Source{}, err
		}
		t.SHA256 = d.SHA256
		out.Tensors = append(out.Tensors, t)
		shown += t.Bytes
	}
	if n := s.whole.StoredBytes(); n != shown {
		out.StoredBytes = n
	}
	for _, f := range s.ck.Files() {
		b, err := s.ck.ReadFile(f.Name, maxTokenizer)
		if err != nil {
			return planfile.Source{}, err
		}
		sum := sha256.Sum256(b)
		out.Files = append(out.Files, planfile.File{Name: f.Name, Bytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:])})
	}
	return out, nil
}

func digest(ctx context.Context, src formats.Source, env Env, name string) ([]hf.TensorDigest, error) {
	tick, stop := counter(env.Progress, name)
	defer stop()
	return hf.Digests(ctx, src, hf.DigestOptions{Par: env.Device.For, Progress: func(done, total int64) { tick(int(done), int(total)) }})
}

func sumDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// finite is a checkpoint whose reads fail on NaNs and infinities.
type finite struct {
	checkpoint.Store
	scratch *sync.Pool
}

// ReadAt reads whole elements.
func (f finite) ReadAt(name string, p []byte, off int64) error {
	if err := f.Store.ReadAt(name, p, off); err != nil {
		return err
	}
	t, _ := f.Lookup(name)
	if !t.DType.IsFloat() {
		return nil
	}
	n := len(p) / t.DType.Size()
	buf, _ := f.scratch.Get().(*[]float32)
	if buf == nil || len(*buf) < n {
		buf = new([]float32)
		*buf = make([]float32, n)
	}
	defer f.scratch.Put(buf)
	if err := formats.Decode((*buf)[:n], p, t.DType); err != nil {
		return formats.Errorf(f.Shard(name), name, "%w", err)
	}
	return formats.CheckFinite(f.Shard(name), name, (*buf)[:n], off/int64(t.DType.Size()))
}

// checkDrift compares a checkpoint with what a plan was made from and names every difference.
func checkDrift(want, have planfile.Source) error {
	var f faults
	f.add(want.ConfigDigest != have.ConfigDigest, "config.json changed")
	diff := func(kind string, a, b map[string]string) {
		for _, name := range sortedKeys(a) {
			if _, ok := b[name]; !ok {
				f.add(true, "%s %s is missing", kind, name)
			} else {
				f.add(a[name] != b[name], "%s %s changed", kind, name)
			}
		}
		for _, name := range sortedKeys(b) {
			_, ok := a[name]
			f.add(!ok, "%s %s is new", kind, name)
		}
	}
	files := func(s planfile.Source) map[string]string {
		m := map[string]string{}
		for _, x := range s.Files {
			m[x.Name] = x.SHA256
		}
		return m
	}
	tensors := func(s planfile.Source) map[string]string {
		m := map[string]string{}
		for _, x := range s.Tensors {
			m[x.Name] = fmt.Sprint(x.DType, x.Shape, x.SHA256)
		}
		return m
	}
	diff("file", files(want), files(have))
	diff("tensor", tensors(want), tensors(have))
	if len(f) == 0 {
		return nil
	}
	const show = 8
	if n := len(f); n > show {
		f = append(f[:show:show], fmt.Errorf("and %d more", n-show))
	}
	return &Error{Kind: KindStale, Err: fmt.Errorf("the model is not the one that was planned on: %w", sortedJoin(f)), Hint: "plan again"}
}
