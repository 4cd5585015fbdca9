//go:build cuda

package cuda

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"modelpress/internal/device/cuda/emu"
)

// No two accesses of kernels to one byte are left to chance. This program runs parts of the conformance suite once more, on kernels that
// tell of every access.
func TestRaces(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	emu.Require(t)
	dir := emu.BuildRaces(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{
		"^TestDevice$/^(f32|bf16)$/^(Attention|AttentionBack|AttnStatistics|AttnReader|Sequences)$/^T(1|7|33|65)_",
		"^TestDevice$/^f32$/^(MatMul..|NormBack|NormGrad|Columns|Mix|Optimizer|RMSNorm|LayerNorm|RoPE|Elementwise|Gather)$",
		"^TestDevice$/^f32$/^Losses$/^3x1028",
		"^TestDevice$/^f32$/^Quantizer$/^(GPTQ|RTN|Gram)$",
		"^TestOwnGemm$",
	} {
		cmd := exec.Command(exe, "-test.run="+run, "-test.v")
		cmd.Env = emu.Environ(dir, "MODELPRESS_EMU_RACES=1")
		out, err := cmd.CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "--- PASS") || strings.Contains(text, "emu: ") {
			t.Errorf("%s: %v\n%s", run, err, text)
		}
	}
}
