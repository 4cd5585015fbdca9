package main

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// TestMain lets the test binary be the process of one method.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-method" {
		main()
		return
	}
	os.Exit(m.Run())
}

func model(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	m := testmodel.New(testmodel.Options{Family: "llama", Layers: 4, D: 32, H: 4, G: 2, K: 16, F: 48, V: 96, Context: 1024, Seed: 5})
	if err := m.Write(dir, 0); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEveryMethodHasALine(t *testing.T) {
	dir := model(t)
	var out bytes.Buffer
	err := run(context.Background(), []string{"-model", dir, "-lengths", "256,320", "-threads", "2", "-answer", "4", "-all-steps", "7"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][][]string{}
	for _, line := range strings.Split(out.String(), "\n") {
		if f := strings.Fields(line); len(f) > 6 {
			lines[f[0]] = append(lines[f[0]], f)
		}
	}
	passes := map[string]int{"leank": 2, "duo": 4}
	for _, name := range methodNames() {
		if len(lines[name]) != 2 {
			t.Fatalf("%d lines of %s in\n%s", len(lines[name]), name, out.String())
		}
		for i, length := range []int{256, 320} {
			f := lines[name][i]
			if want := strconv.Itoa(length * max(passes[name], 1)); f[1] != want {
				t.Errorf("%s saw %s tokens, not %s", name, f[1], want)
			}
			if mib, err := strconv.Atoi(f[5]); err != nil || mib <= 0 && runtime.GOOS == "linux" {
				t.Errorf("%s takes %s MiB", name, f[5])
			}
		}
	}
	if !strings.Contains(out.String(), "h for 7\n") || len(lines[answers]) != 2 {
		t.Errorf("no reckoned time, or no answers, in\n%s", out.String())
	}
}

// A child measures what it was asked to and fails where that fails.
func TestChild(t *testing.T) {
	dir := model(t)
	for _, args := range [][]string{
		{"-method", "wu", "-model", dir, "-length", "256", "-prompts", dir + "/none.json"},
		{"-method", "none", "-model", dir, "-length", "256"},
		{"-method", "dense", "-model", dir},
		{"-method", "dense", "-model", dir + "/none", "-length", "256"},
		{"-model", dir, "-methods", "none"}, {"-model", dir, "-lengths", "100"}, {"-model", dir, "-states", "many"}, {},
		{"-model", dir, "-steps", "1"}, {"-method", "dense", "-model", dir, "-length", "256", "-device", "abacus"},
		{"-method", "dense", "-model", dir, "-length", "256", "-precision", "f8"},
	} {
		var out bytes.Buffer
		if err := run(context.Background(), args, &out); err == nil {
			t.Errorf("%v: no error, but %s", args, out.String())
		}
	}
	profile := dir + "/cpu.pprof"
	var out bytes.Buffer
	if err := run(context.Background(), []string{"-method", "dense", "-model", dir, "-length", "300", "-cpuprofile", profile}, &out); err != nil {
		t.Fatal(err)
	}
	if s, err := os.Stat(profile); err != nil || s.Size() == 0 || !strings.Contains(out.String(), `"Tokens":300`) {
		t.Errorf("%s, %v", out.String(), err)
	}
}
