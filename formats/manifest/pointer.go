package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Pointer is what config.json holds under "attention_plan", so that a lost or swapped file is noticed.
type Pointer struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

// NewPointer returns the pointer to a document with these bytes, beside the weights under its usual name.
func NewPointer(document []byte) Pointer {
	sum := sha256.Sum256(document)
	return Pointer{Schema, FileName, hex.EncodeToString(sum[:])}
}

// Check compares a document with the pointer to it.
func (p Pointer) Check(document []byte) error {
	sum := sha256.Sum256(document)
	if got := hex.EncodeToString(sum[:]); got != p.SHA256 {
		return fmt.Errorf("manifest: %s has sha256 %s, config.json has %.64s", FileName, got, p.SHA256)
	}
	return nil
}
