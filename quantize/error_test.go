package quantize

import (
	"math"
	"testing"
)

func TestRelativeOutputError(t *testing.T) {
	for _, n := range []int{1, 31, 128, 300} {
		const out = 70
		w, q, h := random(12, out*n), random(13, out*n), correlated(12, n, 50)
		want := outputError(w, q, h, out, n) / outputError(w, make([]float32, out*n), h, out, n)
		got := RelativeOutputError(w, q, out, n, h, nil)
		if math.Abs(got-want) > 1e-5*want {
			t.Errorf("width %d: %v, want %v", n, got, want)
		}
		if other := RelativeOutputError(w, q, out, n, h, threads(3)); other != got {
			t.Errorf("width %d: %v on three threads, %v on one", n, other, got)
		}
		if e := RelativeOutputError(w, w, out, n, h, nil); e != 0 {
			t.Errorf("no change has error %v", e)
		}
		if e := RelativeOutputError(make([]float32, out*n), q, out, n, h, nil); e != 0 {
			t.Errorf("no weights have relative error %v", e)
		}
	}
}
