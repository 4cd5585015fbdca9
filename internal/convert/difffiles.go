package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/manifest"
	"modelpress/internal/checkpoint"
	"modelpress/internal/pipeline"
)

// planKey is the key of GGUF metadata that an attention plan is carried in.
const planKey = "compress.attention_plan"

// diffFiles compares the side files of two models, by name.
func diffFiles(a, b *checkpoint.Checkpoint) ([]FileDifference, error) {
	found := map[string]FileDifference{}
	for _, f := range a.Files() {
		sum, err := fileDigest(a, f)
		if err != nil {
			return nil, side(sideA, err)
		}
		found[f.Name] = FileDifference{Name: f.Name, Kind: string(f.Kind), A: sum}
	}
	for _, f := range b.Files() {
		sum, err := fileDigest(b, f)
		if err != nil {
			return nil, side(sideB, err)
		}
		d := found[f.Name]
		d.Name, d.Kind, d.B, d.Equal = f.Name, string(f.Kind), sum, sum == d.A
		found[f.Name] = d
	}
	list := []FileDifference{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[name])
	}
	return list, nil
}

// fileDigest hashes a side file; one of a directory is streamed, one of a GGUF file is in memory already.
func fileDigest(c *checkpoint.Checkpoint, f hf.SideFile) (string, error) {
	var r io.ReadCloser
	if c.Directory != nil {
		file, err := c.Directory.OpenFile(f.Name)
		if err != nil {
			return "", err
		}
		r = file
	} else {
		data, err := c.ReadFile(f.Name, f.Size)
		if err != nil {
			return "", err
		}
		r = io.NopCloser(bytes.NewReader(data))
	}
	h := sha256.New()
	_, err := io.Copy(h, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return "", formats.Errorf(f.Name, "", "%w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// diffPlans compares the attention plans that two models carry, nil where none does.
func diffPlans(a, b *checkpoint.Checkpoint) (*PlanDifference, error) {
	x, err := planOf(a)
	if err != nil {
		return nil, side(sideA, err)
	}
	y, err := planOf(b)
	if err != nil {
		return nil, side(sideB, err)
	}
	if x == nil && y == nil {
		return nil, nil
	}
	d := &PlanDifference{A: digestOf(x), B: digestOf(y)}
	d.Equal = d.A == d.B
	if x != nil && y != nil {
		p, err := policies(x)
		if err != nil {
			return nil, side(sideA, err)
		}
		q, err := policies(y)
		if err != nil {
			return nil, side(sideB, err)
		}
		d.SamePolicies = bytes.Equal(p, q)
	}
	return d, nil
}

// planOf returns the document of the attention plan that a model carries, nil for none. A plan can be read only where the model is known.
func planOf(c *checkpoint.Checkpoint) ([]byte, error) {
	if c.GGUF != nil {
		v, ok := c.GGUF.Lookup(planKey)
		if !ok {
			return nil, nil
		}
		text, ok := v.Str()
		if !ok {
			return nil, formats.Errorf(c.GGUF.Name(), "", "key %q is no text", planKey)
		}
		return []byte(text), nil
	}
	if c.Arch == nil {
		return nil, nil
	}
	return pipeline.CarriedPlan(c.Path, c)
}

func digestOf(doc []byte) string {
	if doc == nil {
		return ""
	}
	sum := sha256.Sum256(doc)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// policies returns what a plan says without what is different for every model and run that has the same policies.
func policies(doc []byte) ([]byte, error) {
	p, err := manifest.Decode(doc)
	if err != nil {
		return nil, formats.Errorf(manifest.FileName, "", "%w", err)
	}
	p.Producer, p.Quality, p.Evidence, p.Selection = manifest.Producer{}, nil, nil, nil
	p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest, p.Model.Architecture = "", "", "", ""
	return json.Marshal(p)
}
