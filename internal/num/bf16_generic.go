//go:build !amd64 || noasm

package num

func weavePanel(dst []uint32, rows *[panelBF16][2 * blockPairs]uint16, count int) {
	weaveGeneric(dst, rows, count)
}

// AskAMX makes products of bfloat16 use the tiles of AMX, which plain Go does not have.
func AskAMX() bool { return false }

func bestBF16() *kernelBF16 { return genericBF16 }

// roundPairs rounds the first pairs of x, none of them here.
func roundPairs(dst []uint32, x []float32, n int) int { return 0 }

// roundRow rounds the first values of src, none of them here.
func roundRow(dst []uint16, src []float32) int { return 0 }
