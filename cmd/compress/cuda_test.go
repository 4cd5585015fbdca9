//go:build cuda

package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"modelpress/formats/planfile"
	"modelpress/internal/device/cuda/emu"
)

// TestCUDAScripts runs testdata/cuda/*.txtar on the emulated GPU: every step of plan and apply with --device cuda. Scripts have one more
// command:
//
//	decides A B TOLERANCE  the steps of two plans decide the same: all but numbers with fractions is equal, those nearly
func TestCUDAScripts(t *testing.T) {
	dir := emu.Build(t)
	commands := map[string]func(*testscript.TestScript, bool, []string){"decides": command(3, scriptDecides)}
	runScripts(t, "testdata/cuda", commands, func(env *testscript.Env) error {
		for _, v := range emu.Environ(dir) {
			if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "MODELPRESS_") {
				env.Setenv(name, value)
			}
		}
		return setupScript(env)
	})
}

func scriptDecides(ts *testscript.TestScript, args []string) error {
	var tol float64
	if _, err := fmt.Sscan(args[2], &tol); err != nil {
		return err
	}
	var plans [2]*planfile.Plan
	for i := range plans {
		p, err := planfile.Decode([]byte(ts.ReadFile(args[i])))
		if err != nil {
			return err
		}
		plans[i] = p
	}
	a, b := plans[0].Steps, plans[1].Steps
	if len(a) != len(b) || len(a) == 0 {
		return fmt.Errorf("%d and %d steps", len(a), len(b))
	}
	for i := range a {
		var x, y any
		if err := json.Unmarshal(a[i].Decision, &x); err != nil {
			return err
		}
		if err := json.Unmarshal(b[i].Decision, &y); err != nil {
			return err
		}
		if err := alike(a[i].Name, x, y, tol); err != nil {
			return err
		}
	}
	return nil
}

// alike reports where two values of JSON differ: numbers that are whole in both must be equal, others within tol of the larger of 1 and their size.
func alike(at string, x, y any, tol float64) error {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return fmt.Errorf("%s: %d keys, and %v", at, len(x), y)
		}
		for k := range x {
			if err := alike(at+"."+k, x[k], y[k], tol); err != nil {
				return err
			}
		}
		return nil
	case []any:
		y, ok := y.([]any)
		if !ok || len(x) != len(y) {
			return fmt.Errorf("%s: %d values, and %v", at, len(x), y)
		}
		for i := range x {
			if err := alike(fmt.Sprintf("%s[%d]", at, i), x[i], y[i], tol); err != nil {
				return err
			}
		}
		return nil
	case float64:
		y, ok := y.(float64)
		whole := x == math.Trunc(x) && y == math.Trunc(y)
		if !ok || whole && x != y || math.Abs(x-y) > tol*max(1, math.Abs(x)) {
			return fmt.Errorf("%s: %v and %v", at, x, y)
		}
		return nil
	}
	if x == y {
		return nil
	}
	a, b := packedFloats(x), packedFloats(y)
	if len(a) == 0 || len(a) != len(b) {
		return fmt.Errorf("%s: %v and %v", at, x, y)
	}
	for i := range a {
		if math.Abs(a[i]-b[i]) > tol*max(1, math.Abs(a[i])) {
			return fmt.Errorf("%s: [%d] is %v and %v", at, i, a[i], b[i])
		}
	}
	return nil
}

// packedFloats are the values of a string that holds little-endian f32 in base64, as a cut has its scales; nil for another one.
func packedFloats(v any) (out []float64) {
	text, _ := v.(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw)%4 != 0 {
		return nil
	}
	for ; len(raw) > 0; raw = raw[4:] {
		out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))))
	}
	return out
}
