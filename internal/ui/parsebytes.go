package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseBytes reads a number of bytes with an optional unit: KB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024.
func ParseBytes(text string) (int64, error) {
	units := []struct {
		suffix string
		bytes  float64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	upper := strings.ToUpper(strings.TrimSpace(text))
	for _, u := range units {
		number, ok := strings.CutSuffix(upper, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*u.bytes >= math.MaxInt64 || v*u.bytes < 1 {
			break
		}
		return int64(v * u.bytes), nil
	}
	return 0, fmt.Errorf("size %q is not a number of bytes such as 500MB or 1GiB", text)
}
