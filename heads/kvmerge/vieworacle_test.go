package kvmerge

import (
	"encoding/binary"
	"math"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// oracleMatrix is a matrix of float64, the oracle's.
type oracleMatrix struct {
	rows, cols int
	v          []float64
}

func newDense(rows, cols int) oracleMatrix {
	return oracleMatrix{rows, cols, make([]float64, rows*cols)}
}

// logical reads a projection as [Out, In], or its bias as [Out, 1], whatever way it is stored.
func logical(t testing.TB, src formats.Source, lin arch.Linear, bias bool) oracleMatrix {
	t.Helper()
	name, in, stride, step := lin.Weight, lin.In, lin.In, 1
	switch {
	case bias:
		name, in, stride, step = lin.Bias, 1, 1, 0
	case lin.Transposed:
		stride, step = 1, lin.StoredOut
	}
	info, _ := src.Lookup(name)
	raw := viewBytes(t, src, name)
	out := newDense(lin.Out, in)
	for o := range lin.Out {
		for i := range in {
			at := (lin.Row+o)*stride + i*step
			switch info.DType {
			case formats.F64:
				out.v[o*in+i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*at:]))
			default:
				var one [1]float32
				size := info.DType.Size()
				if err := formats.Decode(one[:], raw[size*at:size*(at+1)], info.DType); err != nil {
					t.Fatal(err)
				}
				out.v[o*in+i] = float64(one[0])
			}
		}
	}
	return out
}

// mergedOutputs is the oracle for rows: Σ over members of M[g]·W[rows of g], M transposed where decode is set.
func mergedOutputs(w oracleMatrix, k int, members []int, maps func(g int) []float64, decode bool) oracleMatrix {
	out := newDense(k, w.cols)
	for _, b := range members {
		m := maps(b)
		for r := range k {
			for c := range w.cols {
				for i := range k {
					f := m[r*k+i]
					if decode {
						f = m[i*k+r]
					}
					out.v[r*w.cols+c] += f * w.v[(b*k+i)*w.cols+c]
				}
			}
		}
	}
	return out
}

// mergedInputs is the oracle for the columns of head h: W[:, h]·D.
func mergedInputs(w oracleMatrix, k, h int, d []float64) oracleMatrix {
	out := newDense(w.rows, k)
	for r := range w.rows {
		for c := range k {
			for i := range k {
				out.v[r*k+c] += w.v[r*w.cols+h*k+i] * d[i*k+c]
			}
		}
	}
	return out
}

// checkBlock compares block number p of K rows, or columns, with want.
func checkBlock(t *testing.T, what string, got oracleMatrix, p, k int, want oracleMatrix, columns bool) {
	t.Helper()
	for r := range want.rows {
		for c := range want.cols {
			at := (p*k+r)*got.cols + c
			if columns {
				at = r*got.cols + p*k + c
			}
			if d := math.Abs(got.v[at] - want.v[r*want.cols+c]); !(d < 1e-12) {
				t.Fatalf("%s: block %d, (%d, %d) differs by %g", what, p, r, c, d)
			}
		}
	}
}

// checkLayer compares a merged layer with plain loops.
func checkLayer(t *testing.T, src, view formats.Source, a, n *arch.Layer, layer Layer, m *Maps) {
	t.Helper()
	k, copies := a.K, max(1, layer.Repeat)
	if n.G != len(layer.Groups)*copies || n.H != a.H {
		t.Fatalf("%d query heads, %d KV heads", n.H, n.G)
	}
	for _, bias := range []bool{false, true} {
		if bias && a.Linears[arch.Q].Bias == "" {
			break
		}
		var old, now [arch.NumRoles]oracleMatrix
		for _, role := range []arch.Role{arch.Q, arch.K, arch.V, arch.O} {
			if !bias || role != arch.O {
				old[role], now[role] = logical(t, src, a.Linears[role], bias), logical(t, view, n.Linears[role], bias)
			}
		}
		p := 0
		for i, members := range layer.Groups {
			for c := range copies {
				checkBlock(t, "keys", now[arch.K], i*copies+c, k, mergedOutputs(old[arch.K], k, members, func(g int) []float64 { return m.Key.Encode[g] }, false), false)
				checkBlock(t, "values", now[arch.V], i*copies+c, k, mergedOutputs(old[arch.V], k, members, func(g int) []float64 { return m.Value.Encode[g] }, false), false)
			}
			for _, g := range members {
				for h := g * (a.H / a.G); h < (g+1)*(a.H/a.G); h++ {
					if got := p / (a.H / n.G) / copies; got != i {
						t.Fatalf("place %d reads merged head %d, not %d", p, got, i)
					}
					checkBlock(t, "queries", now[arch.Q], p, k, mergedOutputs(old[arch.Q], k, []int{h}, func(int) []float64 { return m.Key.Decode[g] }, true), false)
					if !bias {
						checkBlock(t, "outputs", now[arch.O], p, k, mergedInputs(old[arch.O], k, h, m.Value.Decode[g]), true)
					}
					p++
				}
			}
		}
	}
}
