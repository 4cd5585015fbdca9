//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"modelpress/internal/device"
)

func panicf(format string, args ...any) { panic("cuda: " + fmt.Sprintf(format, args...)) }

// checkAlone refuses a shape of several sequences.
func checkAlone(op string, s device.AttnShape) {
	if s.Sequences() > 1 {
		panicf("%s: %d sequences at once", op, s.Batch)
	}
}

// checkStats panics where what is to be filled in has other sizes than it should.
func checkStats(op string, st *device.AttnStats, s device.AttnShape) {
	if st.Width < 0 || st.Sink < 0 || s.T > math.MaxInt32/2 {
		panicf("%s: bands of %d keys after %d sinks of %d positions", op, st.Width, st.Sink, s.T)
	}
	n := device.AttnBands(s.T, st.Width)
	for _, x := range []struct {
		name string
		v    []float64
		need int
	}{{"ColumnSums", st.ColumnSums, s.T}, {"Blocks", st.Blocks, n * n}, {"Bands", st.Bands, n}, {"Influence", st.Influence, n}, {"Drop", st.Drop, n},
		{"DropAbs", st.DropAbs, n}} {
		if x.v != nil && len(x.v) < s.H*x.need {
			panicf("%s: %s has %d places, and %d are needed", op, x.name, len(x.v), s.H*x.need)
		}
	}
	if len(st.ArgMax) < s.H*len(st.Rows) || st.Peak != nil && len(st.Peak) < s.H*len(st.Rows) {
		panicf("%s: %d and %d peaks for %d rows of %d heads", op, len(st.ArgMax), len(st.Peak), len(st.Rows), s.H)
	}
	for _, i := range st.Rows {
		if i < 0 || i >= s.T {
			panicf("%s: row %d of %d", op, i, s.T)
		}
	}
}
