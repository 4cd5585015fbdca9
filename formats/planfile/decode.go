package planfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Decode reads a plan file. It refuses a file that is too large (ErrTooLarge), that has another format version
// (ErrVersion), that is no plan or has unknown fields, duplicate keys or contradictions (ErrMalformed), and one whose bytes
// are not those that Encode wrote (ErrEdited).
func Decode(data []byte) (*Plan, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("planfile: %d bytes, at most %d are read: %w", len(data), MaxBytes, ErrTooLarge)
	}
	if err := checkKeys(data); err != nil {
		return nil, malformed(err)
	}
	if err := checkFormat(data); err != nil {
		return nil, err
	}
	var p Plan
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return nil, malformed(err)
	}
	if err := checkBytes(&p, data); err != nil {
		return nil, err
	}
	if faults := p.Validate(); len(faults) > 0 {
		return nil, faultsError(faults)
	}
	return &p, nil
}

// checkFormat reads the version before anything else, so that a newer plan is not called malformed.
func checkFormat(data []byte) error {
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return malformed(err)
	}
	if head.Format == Format {
		return nil
	}
	if strings.HasPrefix(head.Format, "compress-plan/") {
		return fmt.Errorf("planfile: format %q, this version reads %q: %w", head.Format, Format, ErrVersion)
	}
	return malformed(fmt.Errorf("format is %q, want %q", head.Format, Format))
}

// checkBytes compares the file with what Encode writes for the same plan, which also catches edits that decoding is
// blind to, and then its id.
func checkBytes(p *Plan, data []byte) error {
	c, err := normal(p)
	if err != nil {
		return malformed(err)
	}
	want, err := write(c)
	if err != nil {
		return malformed(err)
	}
	id, _, err := computeID(want)
	if err != nil {
		return err
	}
	if id != p.PlanID {
		return fmt.Errorf("planfile: plan_id is %.80q, the contents have %q: %w", p.PlanID, id, ErrEdited)
	}
	if !bytes.Equal(want, data) {
		return fmt.Errorf("planfile: the file is laid out otherwise than it was written: %w", ErrEdited)
	}
	return nil
}

func malformed(err error) error {
	return fmt.Errorf("planfile: %w: %w", ErrMalformed, err)
}
