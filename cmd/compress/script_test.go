package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestScripts runs testdata/script/*.txtar, the specification of the command line. A script is a txtar archive: command lines,
// then files that are put into the directory in which it runs. The commands are those of testscript as far as they are
// needed (cmp, cp, exists, grep, mkdir, mv, rm, stderr, stdout, symlink; ! before some negates) and these:
//
//	compress ARG...                    run the program; it must exit with 0
//	exit CODE ARG...                   run the program; it must exit with CODE
//	signal NAME CODE FILE TEXT ARG...  run the program, send it the signal once FILE holds TEXT; it must exit with CODE
//	model NAME DIR [SHARD]             write a random checkpoint (SHARD: most bytes of a weight file)
//	ids FILE ROWS LENGTH VOCAB SEED    write random token ids as .npy
//	flip FILE OFFSET                   invert a byte; a negative offset counts from the end
//	replace FILE OLD NEW               replace the first OLD in a file
//	jsonlines                          stdout of the last run is JSON with an event on every line, and stderr is empty
//	sametree A B                       two directories hold the same files
//	hold FILE                          keep an exclusive lock on a file until the script ends
//
// The program is this test binary, started as one.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, dir: t.TempDir()}
			s.run(s.unpack(string(raw)))
		})
	}
}

// script is one running script.
type script struct {
	t              *testing.T
	dir            string
	stdout, stderr string // of the last run of the program
}

var fileMarker = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// unpack writes the files of an archive and returns the lines before them.
func (s *script) unpack(archive string) []string {
	marks := fileMarker.FindAllStringSubmatchIndex(archive, -1)
	end := len(archive)
	for i := len(marks) - 1; i >= 0; i-- {
		m := marks[i]
		path := s.path(archive[m[2]:m[3]])
		s.check(os.MkdirAll(filepath.Dir(path), 0o755))
		s.check(os.WriteFile(path, []byte(archive[m[1]:end]), 0o644))
		end = m[0]
	}
	return strings.Split(archive[:end], "\n")
}

func (s *script) run(lines []string) {
	for i, line := range lines {
		words, err := splitLine(line)
		if err != nil {
			s.t.Fatalf("line %d: %v", i+1, err)
		}
		if len(words) == 0 {
			continue
		}
		neg := words[0] == "!"
		if neg {
			words = words[1:]
		}
		if err := s.do(neg, words[0], words[1:]); err != nil {
			s.t.Fatalf("line %d: %s\n%v\n[stdout]\n%s[stderr]\n%s", i+1, line, err, s.stdout, s.stderr)
		}
	}
}

// splitLine cuts a line into words at blanks, up to a comment. Single quotes keep blanks; two of them inside are one.
func splitLine(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, any := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' && quoted && i+1 < len(line) && line[i+1] == '\'':
			word.WriteByte(c)
			i++
		case c == '\'':
			quoted, any = !quoted, true
		case !quoted && c == '#' && !any:
			return words, nil
		case !quoted && (c == ' ' || c == '\t'):
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteByte(c)
			any = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if any {
		words = append(words, word.String())
	}
	return words, nil
}

func (s *script) do(neg bool, name string, args []string) error {
	f, ok := scriptCommands[name]
	if !ok {
		return fmt.Errorf("unknown command %q", name)
	}
	if len(args) < f.args {
		return fmt.Errorf("%s wants at least %d arguments", name, f.args)
	}
	err := f.run(s, args)
	if neg {
		if err == nil {
			return errors.New("succeeded, and should not have")
		}
		return nil
	}
	return err
}

// path makes a name of the script a path of the file system.
func (s *script) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

// read returns a file's content, or what the last run printed.
func (s *script) read(name string) string {
	switch name {
	case "stdout":
		return s.stdout
	case "stderr":
		return s.stderr
	}
	b, err := os.ReadFile(s.path(name))
	s.check(err)
	return string(b)
}

func (s *script) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// program prepares a run of the program in the script's directory.
func (s *script) program(args []string) (c *exec.Cmd, stdout, stderr *bytes.Buffer) {
	c, _ = program(s.t, args...)
	c.Dir, stdout, stderr = s.dir, &bytes.Buffer{}, &bytes.Buffer{}
	c.Stdout, c.Stderr = stdout, stderr
	return c, stdout, stderr
}

// expect runs the program and compares its exit code.
func (s *script) expect(code int, args []string) error {
	c, stdout, stderr := s.program(args)
	err := c.Run()
	s.stdout, s.stderr = stdout.String(), stderr.String()
	if got := exitOf(err); got != code {
		return fmt.Errorf("exit code %d, want %d (%v)", got, code, err)
	}
	return nil
}

// exitOf is the exit code behind the error of a finished command, -1 where a signal ended it or it did not start.
func exitOf(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return -1
}
