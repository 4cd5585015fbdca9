package main

import (
	"os"
	"testing"
)

// TestInspectExample: the table of the example model, word for word, as people see it.
func TestInspectExample(t *testing.T) {
	want, err := os.ReadFile("testdata/inspect-example.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := mustRun(t, exitOK, "inspect", example+"/model")
	if got != string(want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
