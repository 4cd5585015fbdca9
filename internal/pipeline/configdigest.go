package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// configDigest identifies a config.json: sha256 over its JSON without the key attention_plan (which holds the digest of the
// attention plan, which holds this one), with keys sorted, no white space, and numbers as they stand.
func configDigest(raw []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return "", fmt.Errorf("pipeline: config.json: %w", err)
	}
	delete(doc, "attention_plan")
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return "", fmt.Errorf("pipeline: config.json: %w", err)
	}
	sum := sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
