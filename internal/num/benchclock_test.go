//go:build !unix

package num

func cpuSeconds() float64 { return 0 }
