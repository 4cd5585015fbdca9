//go:build cuda

package main

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"modelpress/internal/device/cuda/emu"
)

// TestCUDAScripts runs testdata/cuda/*.txtar on the emulated GPU: every step of plan and apply with --device cuda.
func TestCUDAScripts(t *testing.T) {
	dir := emu.Build(t)
	runScripts(t, "testdata/cuda", func(env *testscript.Env) error {
		for _, v := range emu.Environ(dir) {
			if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "MODELPRESS_") {
				env.Setenv(name, value)
			}
		}
		return setupScript(env)
	})
}
