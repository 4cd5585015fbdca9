package main

import "testing"

// TestQuoted: the next command can be pasted into a shell whatever the paths.
func TestQuoted(t *testing.T) {
	for path, want := range map[string]string{"out/llama-int4": "out/llama-int4", "my model": "'my model'", "it's": `'it'\''s'`, "~x": "'~x'", "": "''", "a$b": "'a$b'"} {
		if got := quoted(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}
