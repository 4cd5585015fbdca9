package sparse

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Unstructured is the name of the pattern that is a share of all weights, wherever they lie.
const Unstructured = "unstructured"

// Pattern says which weights may stay. The zero value lets all of them.
type Pattern struct {
	Ratio float64 // share of the weights that become 0, from 0 to 1; not looked at where M is set
	N, M  int     // of every M consecutive inputs of a row N stay, as in 2:4; 0 for an unstructured pattern
}

// ParsePattern reads "unstructured", whose share of zeros is ratio, or "n:m" with 0 < n < m: of every m inputs n stay (as
// NVIDIA and PyTorch write 2:4).
func ParsePattern(text string, ratio float64) (Pattern, error) {
	if text == Unstructured {
		return Pattern{Ratio: ratio}, nil
	}
	left, right, ok := strings.Cut(text, ":")
	n, errN := strconv.Atoi(left)
	m, errM := strconv.Atoi(right)
	if !ok || errN != nil || errM != nil || n < 1 || m <= n || m > MaxBlock || text != fmt.Sprintf("%d:%d", n, m) {
		return Pattern{}, fmt.Errorf("sparse: pattern %q: want %s, or n:m as in 2:4, where n of every m inputs stay", text, Unstructured)
	}
	return Pattern{N: n, M: m}, nil
}

// String returns the name of the pattern: "2:4", or "50 % unstructured".
func (p Pattern) String() string {
	if p.M > 0 {
		return fmt.Sprintf("%d:%d", p.N, p.M)
	}
	return strconv.FormatFloat(math.Round(p.Ratio*1e8)/1e6, 'f', -1, 64) + " % " + Unstructured
}

// Share returns the share of weights that become 0.
func (p Pattern) Share() float64 {
	if p.M > 0 {
		return float64(p.M-p.N) / float64(p.M)
	}
	return p.Ratio
}

// check reports what is wrong with the pattern for rows of in inputs.
func (p Pattern) check(in int) error {
	switch {
	case p.M == 0 && p.N == 0:
		if !(p.Ratio >= 0 && p.Ratio <= 1) {
			return fmt.Errorf("ratio %v; a number from 0 to 1 is needed", p.Ratio)
		}
	case p.N < 0 || p.N > p.M || p.M > MaxBlock:
		return fmt.Errorf("pattern %s; 0 <= n <= m <= %d is needed", p, MaxBlock)
	case in%p.M != 0:
		return fmt.Errorf("%d inputs do not divide into groups of %d", in, p.M)
	}
	return nil
}

// of returns how many of n weights become 0 under an unstructured pattern: Ratio·n, rounded to nearest.
func (p Pattern) of(n int) int { return int(math.Round(p.Ratio * float64(n))) }
