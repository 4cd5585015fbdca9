package planfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MaxBytes is the largest plan file that Decode reads.
const MaxBytes = 256 << 20

// What is wrong with a plan file.
var (
	// ErrEdited: the file is not the one that was written.
	ErrEdited = errors.New("plan was edited after it was made: change the recipe and plan again")
	// ErrVersion: the file has a format that this version does not read.
	ErrVersion = errors.New("plan has an unsupported format")
	// ErrMalformed: the file is no plan, or an impossible one.
	ErrMalformed = errors.New("not a valid plan")
	// ErrTooLarge: the file is larger than MaxBytes.
	ErrTooLarge = errors.New("plan file is too large")
)

const idPrefix = "sha256:"

// idLine starts the line that holds the id. No other line of a file starts so: the fields of the outermost object are
// the only ones indented by two spaces.
var idLine = []byte("\n  \"plan_id\": \"")

// Encode checks p, fills in its format and id, and returns the bytes of the file. Equal plans give equal bytes: fields stand in
// a fixed order, decisions have sorted keys, HTML is not escaped, integers are exact, and the last byte is a newline.
//
// The id is the sha256 of the file without the line that holds it, so anyone can check it:
//
//	sed '/^  "plan_id": /d' plan.json | sha256sum
func Encode(p *Plan) ([]byte, error) {
	c, err := normal(p)
	if err != nil {
		return nil, err
	}
	c.Format = Format
	c.PlanID = idPrefix + strings.Repeat("0", 64)
	if faults := c.Validate(); len(faults) > 0 {
		return nil, faultsError(faults)
	}
	data, err := write(c)
	if err != nil {
		return nil, err
	}
	id, at, err := computeID(data)
	if err != nil {
		return nil, err
	}
	copy(data[at:], id)
	p.Format, p.PlanID = c.Format, id
	return data, nil
}

// write returns the canonical bytes of a normalized plan with the id that it holds.
func write(p *Plan) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("planfile: %w", err)
	}
	return layout(bytes.TrimSuffix(buf.Bytes(), []byte("\n"))), nil
}

// computeID returns the id of a file's bytes and the index at which the file holds its own.
func computeID(data []byte) (id string, at int, err error) {
	start := bytes.Index(data, idLine)
	if start < 0 {
		return "", 0, fmt.Errorf("planfile: no plan_id: %w", ErrMalformed)
	}
	at = start + len(idLine)
	end := bytes.IndexByte(data[at:], '\n')
	if end < 0 {
		return "", 0, fmt.Errorf("planfile: no plan_id: %w", ErrMalformed)
	}
	h := sha256.New()
	h.Write(data[:start])
	h.Write(data[at+end:])
	return idPrefix + hex.EncodeToString(h.Sum(nil)), at, nil
}

// normal returns a copy of p in which equal meanings have equal forms: no nil slices where the file has a list, and raw
// JSON with sorted keys.
func normal(p *Plan) (*Plan, error) {
	c := *p
	var err error
	if c.Recipe.Settings, err = canonical(p.Recipe.Settings); err != nil {
		return nil, fmt.Errorf("planfile: recipe settings: %w", err)
	}
	c.Steps = append([]Step{}, p.Steps...)
	for i := range c.Steps {
		if c.Steps[i].Decision, err = canonical(c.Steps[i].Decision); err != nil {
			return nil, fmt.Errorf("planfile: decision of step %s: %w", c.Steps[i].Name, err)
		}
	}
	c.Targets = append([]Target{}, p.Targets...)
	c.Gates = append([]Gate{}, p.Gates...)
	c.Source.Files = append([]File{}, p.Source.Files...)
	c.Source.Tensors = normalTensors(p.Source.Tensors)
	c.Changes = append([]Change{}, p.Changes...)
	for i := range c.Changes {
		c.Changes[i].Before.Shape = normalShape(c.Changes[i].Before.Shape)
		c.Changes[i].After = normalTensors(c.Changes[i].After)
	}
	c.Output.Files = append([]OutputFile{}, p.Output.Files...)
	c.Output.Shards = append([]Shard{}, p.Output.Shards...)
	for i := range c.Output.Shards {
		placed := append([]Placed{}, c.Output.Shards[i].Tensors...)
		for j := range placed {
			placed[j].Shape = normalShape(placed[j].Shape)
		}
		c.Output.Shards[i].Tensors = placed
	}
	return &c, nil
}

func normalTensors(in []Tensor) []Tensor {
	out := append([]Tensor{}, in...)
	for i := range out {
		out[i].Shape = normalShape(out[i].Shape)
	}
	return out
}

func normalShape(s []int64) []int64 {
	if s == nil {
		return []int64{}
	}
	return s
}
