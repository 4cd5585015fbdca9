package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// example is the trained model in the repository and its data.
const example = "../../examples/tiny-llama"

// fast is a recipe that runs every step on few windows.
const fast = `version: 1
seed: 3
target: [hf, vllm, llama.cpp]
calibration: {sequences: 6, holdout: 2, length: 128}
heads: {method: projected_error, full_share: 0.25, sink: 4, recent: 32}
quantize: {method: rsq, bits: 4, group_size: 64}
`

// asProgram is the environment variable that makes the test binary the program.
const asProgram = "COMPRESS_AS_PROGRAM"

// TestMain makes the test binary the program itself when it is started as such: scripts and tests of crashes need a process of their own.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "1" {
		code := run(os.Args[1:], os.Stdout, os.Stderr)
		if os.Getenv(tellsMemory) == "1" {
			tellMemory()
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// tellsMemory has the program say at its end how much memory it had. What the kernel counts for a process would not do: that
// includes what the tests had when they started it.
const tellsMemory = "COMPRESS_TEST_MEMORY"

// tellMemory writes the line of /proc/self/status with the most memory that was resident.
func tellMemory() {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Fprintln(os.Stderr, line)
		}
	}
}

// program returns a command that runs the program with args in another process.
func program(t testing.TB, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	return c, &out
}

// mustRun runs the program in this process and fails the test unless it exits with code.
func mustRun(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(args, &out, &errs); got != code {
		t.Fatalf("compress %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// write creates a file below the test's directory and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// planFast plans the fast recipe on the example model and returns the plan's path and the flags that apply needs.
func planFast(t *testing.T, dir string) (plan string, flags []string) {
	t.Helper()
	recipe := write(t, dir, "recipe.yaml", fast)
	plan = filepath.Join(dir, "plan.json")
	flags = []string{"--model", example + "/model", "--calib", example + "/data/calib.safetensors"}
	mustRun(t, exitOK, append([]string{"plan", "--recipe", recipe, "-o", plan}, flags...)...)
	return plan, flags
}

// tree returns the sha256 of every file below dir, a line for each.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		rel, _ := filepath.Rel(dir, path)
		lines = append(lines, rel+" "+hex.EncodeToString(sum[:]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
