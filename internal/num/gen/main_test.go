package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// The assembly that is committed must be what the generator writes.
func TestGeneratedIsCommitted(t *testing.T) {
	for name, text := range files() {
		have, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, text) {
			t.Errorf("%s is not what the generator writes: run go generate in internal/num/gen", name)
		}
	}
}
