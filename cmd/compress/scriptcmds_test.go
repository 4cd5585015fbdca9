package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"modelpress/internal/testmodel"
)

// scriptCommands are what a script can say, with the least number of arguments of each.
var scriptCommands = map[string]struct {
	args int
	run  func(s *script, args []string) error
}{
	"cmp":     {2, scriptCmp},
	"cp":      {2, func(s *script, a []string) error { return os.WriteFile(s.path(a[1]), []byte(s.read(a[0])), 0o644) }},
	"exists":  {1, scriptExists},
	"grep":    {2, func(s *script, a []string) error { return matches(a[0], s.read(a[1])) }},
	"mkdir":   {1, func(s *script, a []string) error { return os.MkdirAll(s.path(a[0]), 0o755) }},
	"mv":      {2, func(s *script, a []string) error { return os.Rename(s.path(a[0]), s.path(a[1])) }},
	"rm":      {1, scriptRemove},
	"stderr":  {1, func(s *script, a []string) error { return matches(a[0], s.stderr) }},
	"stdout":  {1, func(s *script, a []string) error { return matches(a[0], s.stdout) }},
	"symlink": {3, func(s *script, a []string) error { return os.Symlink(a[2], s.path(a[0])) }},

	"compress":  {0, func(s *script, a []string) error { return s.expect(0, a) }},
	"exit":      {1, func(s *script, a []string) error { return s.expect(s.integer(a[0]), a[1:]) }},
	"signal":    {5, scriptSignal},
	"model":     {2, scriptModel},
	"ids":       {5, scriptIDs},
	"flip":      {2, scriptFlip},
	"replace":   {3, scriptReplace},
	"jsonlines": {0, scriptJSONLines},
	"sametree":  {2, scriptSameTree},
	"hold":      {1, scriptHold},
}

// scriptModels are the checkpoints that scripts can ask for.
var scriptModels = map[string]testmodel.Options{
	"llama": {D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 1},
	"wide":  {D: 128, H: 4, G: 2, F: 256, V: 128, Seed: 2},
	"odd":   {D: 96, H: 4, G: 2, F: 136, V: 128, Seed: 3},
	"long":  {Layers: 24, D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 4},
	"tied":  {D: 64, H: 4, G: 2, F: 128, V: 128, Tied: true, Seed: 5},
	"gpt2":  {Family: "gpt2", D: 64, H: 4, V: 128, Seed: 6},
}

// matches reports an error unless some line of text matches the expression.
func matches(expr, text string) error {
	re, err := regexp.Compile(`(?m)` + expr)
	if err != nil {
		return err
	}
	if !re.MatchString(text) {
		return fmt.Errorf("nothing matches %q", expr)
	}
	return nil
}

func (s *script) integer(text string) int {
	n, err := strconv.Atoi(text)
	s.check(err)
	return n
}

func scriptCmp(s *script, args []string) error {
	if a, b := s.read(args[0]), s.read(args[1]); a != b {
		return fmt.Errorf("%s and %s differ:\n%.400s\n%.400s", args[0], args[1], a, b)
	}
	return nil
}

// scriptExists fails unless all of the files exist. With ! one name at a time says what is meant.
func scriptExists(s *script, args []string) error {
	var missing []string
	for _, name := range args {
		if _, err := os.Lstat(s.path(name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not there: %s", strings.Join(missing, " "))
	}
	return nil
}

func scriptRemove(s *script, args []string) error {
	var errs []error
	for _, name := range args {
		errs = append(errs, os.RemoveAll(s.path(name)))
	}
	return errors.Join(errs...)
}

func scriptSignal(s *script, args []string) error {
	sig := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM}[args[0]]
	want, file := s.integer(args[1]), s.path(args[2])
	c, stdout, stderr := s.program(args[4:])
	s.check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for sent := false; ; time.Sleep(time.Millisecond) {
		select {
		case err := <-ended:
			s.stdout, s.stderr = stdout.String(), stderr.String()
			if got := exitOf(err); got != want {
				return fmt.Errorf("exit code %d, want %d (signal sent: %t)", got, want, sent)
			}
			return nil
		default:
		}
		if b, err := os.ReadFile(file); err == nil && !sent && strings.Contains(string(b), args[3]) {
			s.check(c.Process.Signal(sig))
			sent = true
		}
	}
}

func scriptModel(s *script, args []string) error {
	o, ok := scriptModels[args[0]]
	if !ok {
		return fmt.Errorf("no model %q", args[0])
	}
	shard := 0
	if len(args) > 2 {
		shard = s.integer(args[2])
	}
	return writeModel(s.path(args[1]), testmodel.New(o), int64(shard))
}

func scriptIDs(s *script, args []string) error {
	n, t, v, seed := s.integer(args[1]), s.integer(args[2]), s.integer(args[3]), s.integer(args[4])
	return os.WriteFile(s.path(args[0]), npy(testmodel.Windows(n, t, v, uint64(seed))), 0o644)
}

func scriptFlip(s *script, args []string) error {
	b, at := []byte(s.read(args[0])), s.integer(args[1])
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0xff
	return os.WriteFile(s.path(args[0]), b, 0o644)
}

func scriptReplace(s *script, args []string) error {
	old := s.read(args[0])
	if !strings.Contains(old, args[1]) {
		return fmt.Errorf("%s does not hold %q", args[0], args[1])
	}
	return os.WriteFile(s.path(args[0]), []byte(strings.Replace(old, args[1], args[2], 1)), 0o644)
}

func scriptJSONLines(s *script, _ []string) error {
	if s.stderr != "" {
		return errors.New("stderr is not empty")
	}
	if !strings.HasSuffix(s.stdout, "\n") {
		return errors.New("stdout does not end in a newline")
	}
	for line := range strings.Lines(s.stdout) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == "" {
			return fmt.Errorf("no event: %.200s (%v)", line, err)
		}
	}
	return nil
}

func scriptSameTree(s *script, args []string) error {
	if a, b := tree(s.t, s.path(args[0])), tree(s.t, s.path(args[1])); a != b {
		return fmt.Errorf("%s:\n%s\n%s:\n%s", args[0], a, args[1], b)
	}
	return nil
}

func scriptHold(s *script, args []string) error {
	path := s.path(args[0])
	s.check(os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.Create(path)
	s.check(err)
	s.t.Cleanup(func() { f.Close() })
	return unix.Flock(int(f.Fd()), unix.LOCK_EX)
}
