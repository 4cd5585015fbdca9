package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

func TestEveryPartHasItsLines(t *testing.T) {
	dir := t.TempDir()
	if err := testmodel.New(testmodel.Options{Family: "llama", Layers: 2, D: 32, H: 4, G: 2, K: 8, F: 48, V: 96, Context: 64, Seed: 5}).Write(dir, 0); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run([]string{"-model", dir, "-repeats", "1", "-matrix", "64", "-windows", "4", "-length", "32", "-lengths", "48,70", "-heads", "4", "-kv", "2", "-dim", "8"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^cpu-`, `8 products of 64 x 64 +[0-9.]+ s`, `attention, 48 tokens, 4 heads of 8 .*% of the products' rate`, `column sums, 70 tokens`,
		`backward, 70 tokens`, `64 sinks, window 1984, 48 tokens`, `forward, 4 x 32 tokens, 2 layers .*%`, `stream: all blocks copied in`, `stream: +4 windows .* ratio`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestWrongOptions(t *testing.T) {
	for _, args := range []string{"-only forward", "-only none", "-only matrix,none", "-precision f8", "-heads 3 -kv 2", "-lengths 1,x", "-lengths 0", "-max-device-memory much",
		"-device abacus -only matrix", "-repeats 0", "-model /nowhere -only forward"} {
		var out bytes.Buffer
		if err := run(strings.Fields(args), &out); err == nil {
			t.Errorf("%s: no error, but %s", args, out.String())
		}
	}
}
