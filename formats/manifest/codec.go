package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MaxBytes is the largest document that Decode reads.
const MaxBytes = 64 << 20

// What is wrong with a document.
var (
	// ErrSchema: it is of another kind or major version.
	ErrSchema = errors.New("unsupported schema")
	// ErrMalformed: it is not JSON of the right shape.
	ErrMalformed = errors.New("not an attention plan")
	// ErrInvalid: it has faults.
	ErrInvalid = errors.New("invalid attention plan")
)

// FaultsError carries every fault of a plan. It wraps ErrInvalid.
type FaultsError struct{ Faults []Fault }

func (e *FaultsError) Error() string {
	const show = 5
	var b strings.Builder
	fmt.Fprintf(&b, "manifest: %v (%d faults): ", ErrInvalid, len(e.Faults))
	for i, f := range e.Faults {
		if i == show {
			b.WriteString("; …")
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// Unwrap returns ErrInvalid.
func (e *FaultsError) Unwrap() error { return ErrInvalid }

// Encode validates p and returns its canonical bytes: fields in the order of the types, map keys sorted, no HTML escapes, one
// line for each layer, policy and record, and a newline at the end. An empty schema is filled in.
func Encode(p *Plan) ([]byte, error) {
	c := *p
	if c.Schema == "" {
		c.Schema = Schema
	}
	if faults := c.Validate(); len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	if c.Layers == nil {
		c.Layers = []Layer{}
	}
	if c.Requires == nil {
		c.Requires = []string{}
	}
	compact, err := marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return layout(compact), nil
}

// Decode reads a document and validates it. Fields that version 1 does not know are ignored; unknown policy kinds and
// required features are kept, for Usable to judge. Errors wrap ErrMalformed, ErrSchema or ErrInvalid.
func Decode(data []byte) (*Plan, error) {
	p, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if faults := p.Validate(); len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	return p, nil
}

// Parse is Decode without validation, for tools that list faults.
func Parse(data []byte) (*Plan, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("manifest: %w: %d bytes, at most %d are read", ErrMalformed, len(data), MaxBytes)
	}
	if err := checkKeys(data); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrMalformed, err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrMalformed, err)
	}
	if !schemaOK(head.Schema) {
		return nil, fmt.Errorf("manifest: %w: %.80q, this version reads %s", ErrSchema, head.Schema, Schema)
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrMalformed, err)
	}
	return &p, nil
}

// schemaOK accepts version 1 and its minor versions.
func schemaOK(s string) bool {
	minor, ok := strings.CutPrefix(s, Schema)
	if !ok || minor == "" {
		return ok
	}
	digits, ok := strings.CutPrefix(minor, ".")
	return ok && digits != "" && len(digits) < 10 && strings.Trim(digits, "0123456789") == ""
}
