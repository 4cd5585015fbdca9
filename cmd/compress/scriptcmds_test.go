package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// scriptModels are the checkpoints that scripts can ask for.
var scriptModels = map[string]testmodel.Options{
	"llama": {D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 1},
	"wide":  {D: 128, H: 4, G: 2, F: 256, V: 128, Seed: 2},
	"odd":   {D: 96, H: 4, G: 2, F: 136, V: 128, Seed: 3},
	"serve": {D: 256, H: 4, G: 2, F: 512, V: 128, DType: formats.BF16, Seed: 12}, // shapes that kernels of servers take
	"long":  {Layers: 24, D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 4},
	"twin":  {D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 11}, // llama with other weights
	"tied":  {D: 64, H: 4, G: 2, F: 128, V: 128, Tied: true, Seed: 5},
	"gpt2":  {Family: "gpt2", D: 64, H: 4, V: 128, Seed: 6},
	"gqa4":  {Layers: 3, D: 128, H: 8, G: 4, F: 256, V: 128, Seed: 7},
	"mqa":   {D: 64, H: 4, G: 1, F: 128, V: 128, Tied: true, Seed: 8},
	"qwen3": {Family: "qwen3", D: 64, H: 4, G: 2, K: 32, F: 128, V: 128, Seed: 9},
}

// integer reads a number of a script.
func integer(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

func scriptExit(ts *testscript.TestScript, args []string) error {
	return expect(ts, integer(ts, args[0]), args[1:])
}

func scriptSignal(ts *testscript.TestScript, args []string) error {
	sig, ok := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM}[args[0]]
	if !ok {
		return fmt.Errorf("no signal %q", args[0])
	}
	want, file := integer(ts, args[1]), ts.MkAbs(args[2])
	c, _ := program(tb(ts), args[4:]...)
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), ts.Stdout(), ts.Stderr()
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for sent := false; ; time.Sleep(time.Millisecond) {
		select {
		case err := <-ended:
			if got := exitOf(err); got != want {
				return fmt.Errorf("exit code %d, want %d (signal sent: %t)", got, want, sent)
			}
			return nil
		default:
		}
		if b, err := os.ReadFile(file); err == nil && !sent && strings.Contains(string(b), args[3]) {
			ts.Check(c.Process.Signal(sig))
			sent = true
		}
	}
}

func scriptModel(ts *testscript.TestScript, args []string) error {
	o, ok := scriptModels[args[0]]
	if !ok {
		return fmt.Errorf("no model %q", args[0])
	}
	shard := 0
	if len(args) > 2 {
		shard = integer(ts, args[2])
	}
	return writeModel(ts.MkAbs(args[1]), testmodel.New(o), int64(shard))
}

func scriptPlanted(ts *testscript.TestScript, args []string) error {
	for _, c := range testmodel.PlantedCases() {
		if c.Name == args[0] {
			dir := ts.MkAbs(args[1])
			ts.Check(os.MkdirAll(dir, 0o755))
			return testmodel.Plant(c.Options).WriteDir(dir)
		}
	}
	return fmt.Errorf("no planted model %q", args[0])
}

// passageLetters are what passages are made of: neither digits nor small letters, which the codes and names of facts have to
// themselves.
const passageLetters = "!\"#$%&'()*+,-/;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`{|}~"

// scriptPassages writes rows that each say a passage of at least 40 different letters over and over.
func scriptPassages(ts *testscript.TestScript, args []string) error {
	rows, length, seed := integer(ts, args[1]), integer(ts, args[2]), integer(ts, args[3])
	var b strings.Builder
	for i := range rows {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		order := rng.Perm(len(passageLetters))
		order = order[:40+rng.IntN(len(order)-40+1)]
		text := make([]byte, length)
		for j := range text {
			text[j] = passageLetters[order[j%len(order)]]
		}
		line, err := json.Marshal(map[string]string{"text": string(text)})
		ts.Check(err)
		b.Write(append(line, '\n'))
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o644)
}

// scriptHeadsPlan writes OUT.yaml, base.yaml with a heads section, and makes OUT.json from it, which has the same bytes with one
// thread as with two; its result OUT, whose attention plan is one for its weights; and the drawing, which is the same of both.
// The stdout that it leaves is that of show.
func scriptHeadsPlan(ts *testscript.TestScript, args []string) error {
	out, model := args[0], args[1]
	recipe, plan := out+".yaml", out+".json"
	ts.Check(os.WriteFile(ts.MkAbs(recipe), []byte(ts.ReadFile("base.yaml")+"heads: "+args[2]+"\n"), 0o644))
	run := func(args ...string) string {
		ts.Check(expect(ts, exitOK, args))
		return ts.ReadFile("stdout")
	}
	again := out + "-again.json"
	for path, threads := range map[string]string{plan: "2", again: "1"} {
		run("plan", "--model", model, "--recipe", recipe, "--calib", "calib.jsonl", "-o", path, "--threads", threads)
	}
	if ts.ReadFile(plan) != ts.ReadFile(again) {
		return fmt.Errorf("%s: another plan with one thread than with two", out)
	}
	run("apply", plan, "--model", model, "--calib", "calib.jsonl", "-o", out)
	run("manifest", "check", out, "--model", out)
	if a, b := run("heads", plan, "--length", "128"), run("heads", out, "--length", "128"); a != b {
		return fmt.Errorf("the plan is drawn as\n%sits result as\n%s", a, b)
	}
	run("show", plan)
	return nil
}

func scriptIDs(ts *testscript.TestScript, args []string) error {
	n, t, v, seed := integer(ts, args[1]), integer(ts, args[2]), integer(ts, args[3]), integer(ts, args[4])
	return os.WriteFile(ts.MkAbs(args[0]), npy(testmodel.Windows(n, t, v, uint64(seed))), 0o644)
}

func scriptFlip(ts *testscript.TestScript, args []string) error {
	b, at := []byte(ts.ReadFile(args[0])), integer(ts, args[1])
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0xff
	return os.WriteFile(ts.MkAbs(args[0]), b, 0o644)
}

func scriptReplace(ts *testscript.TestScript, args []string) error {
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		return fmt.Errorf("%s does not hold %q", args[0], args[1])
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(old, args[1], args[2], 1)), 0o644)
}

func scriptJSONLines(ts *testscript.TestScript, _ []string) error {
	if ts.ReadFile("stderr") != "" {
		return errors.New("stderr is not empty")
	}
	stdout := ts.ReadFile("stdout")
	if !strings.HasSuffix(stdout, "\n") {
		return errors.New("stdout does not end in a newline")
	}
	for line := range strings.Lines(stdout) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == "" {
			return fmt.Errorf("no event: %.200s (%v)", line, err)
		}
	}
	return nil
}

func scriptSameTree(ts *testscript.TestScript, args []string) error {
	if a, b := tree(tb(ts), ts.MkAbs(args[0])), tree(tb(ts), ts.MkAbs(args[1])); a != b {
		return fmt.Errorf("%s:\n%s\n%s:\n%s", args[0], a, args[1], b)
	}
	return nil
}

func scriptHold(ts *testscript.TestScript, args []string) error {
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.Create(path)
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	return unix.Flock(int(f.Fd()), unix.LOCK_EX)
}
