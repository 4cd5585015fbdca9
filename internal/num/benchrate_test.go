package num

import (
	"slices"
	"time"
)

// rates are operations per second of processor time and per second by the clock.
type rates struct{ cpu, wall float64 }

func rate(f func() float64) rates {
	start, cpu := time.Now(), cpuSeconds()
	flops := f()
	return rates{flops / (cpuSeconds() - cpu), flops / time.Since(start).Seconds()}
}

// median returns the middle one of v.
func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
