package ui

import (
	"fmt"
	"math"
)

// Bytes writes a size in binary units with three significant digits or so: "10.6 MiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + positive(-float64(n))
	}
	return positive(float64(n))
}

// Delta writes a change of size with its sign: "-6.9 MiB".
func Delta(n int64) string {
	if n > 0 {
		return "+" + Bytes(n)
	}
	return Bytes(n)
}

func positive(f float64) string {
	if f < 1024 {
		return fmt.Sprintf("%d B", int64(f))
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for f /= 1024; math.Round(f*10) >= 10240 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
