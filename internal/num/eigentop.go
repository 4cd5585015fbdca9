package num

import (
	"math"
	"math/rand/v2"
)

// SymEigenTop computes the k largest eigenvalues of the symmetric matrix a [n, n], which it leaves as it is and of which it
// reads both halves: w [k] in descending order and the vectors as the rows of v [k, n]. Each satisfies
// ‖a·v - w·v‖ <= tol*‖a‖. It fails with ErrNotFinite alone.
//
// The method is a block Krylov iteration from a random start with a fixed seed, restarted from its best vectors (Musco and
// Musco, arXiv:1504.05477): products of n*n with blocks of about 1.2*k vectors, a few tens of them where the spectrum
// decays. As with every such method a value could in principle be missed, with a probability of zero over starts. Where
// the block is not small against n, or convergence is too slow, SymEigen does the work on a copy.
func SymEigenTop(w, v, a []float64, n, k int, tol float64, par Par) error {
	checkDims("SymEigenTop", n, k, n-k)
	checkMat("SymEigenTop", "a", len(a), n, n, n)
	checkMat("SymEigenTop", "v", len(v), k, n, n)
	checkLen("SymEigenTop", "w", len(w), k)
	for _, x := range a[:n*n] {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return ErrNotFinite
		}
	}
	if k == 0 {
		return nil
	}
	s := krylov{n: n, block: k + max(8, k/5), par: par, rng: rand.New(rand.NewPCG(1504, 5477))}
	if s.block*2*krylovBlocks <= n && s.run(w, v, a, k, tol) {
		return nil
	}
	all, vectors := make([]float64, n), append([]float64(nil), a[:n*n]...)
	if err := SymEigen(all, vectors, n, par); err != nil {
		return err
	}
	for i := range k {
		w[i] = all[n-1-i]
		copy(v[i*n:][:n], vectors[(n-1-i)*n:])
	}
	return nil
}

const (
	krylovBlocks   = 7 // blocks of the basis
	krylovRestarts = 8 // before giving up, or earlier where the pace is not enough
)

// krylov is the state of SymEigenTop: an orthonormal basis as rows of q, and a times it.
type krylov struct {
	n, block int
	q, aq    []float64 // [krylovBlocks*block, n]
	par      Par
	rng      *rand.Rand
}

// run reports whether it reached tol.
func (s *krylov) run(w, v, a []float64, k int, tol float64) bool {
	n, b := s.n, s.block
	dim := krylovBlocks * b
	s.q, s.aq = make([]float64, dim*n), make([]float64, dim*n)
	for i := range b * n {
		s.q[i] = s.rng.NormFloat64()
	}
	t, ritz := make([]float64, dim*dim), make([]float64, dim)
	y, ay := make([]float64, b*n), make([]float64, b*n)
	worst := 0.0
	for round := range krylovRestarts {
		for c := range krylovBlocks {
			s.orthonormalize(c * b)
			GemmNN64(s.aq[c*b*n:], n, s.q[c*b*n:], n, a, n, b, n, n, 1, 0, s.par)
			if c+1 < krylovBlocks {
				copy(s.q[(c+1)*b*n:(c+2)*b*n], s.aq[c*b*n:])
			}
		}
		GemmNT64(t, dim, s.q, n, s.aq, n, dim, dim, n, 1, 0, s.par)
		if SymEigen(ritz, t, dim, s.par) != nil {
			return false
		}
		for i := range b / 2 { // the best first
			for j := range dim {
				p, q := (dim-b+i)*dim+j, (dim-1-i)*dim+j
				t[p], t[q] = t[q], t[p]
			}
		}
		GemmNN64(y, n, t[(dim-b)*dim:], dim, s.q, n, b, n, dim, 1, 0, s.par)
		GemmNN64(ay, n, t[(dim-b)*dim:], dim, s.aq, n, b, n, dim, 1, 0, s.par)
		norm := max(math.Abs(ritz[0]), math.Abs(ritz[dim-1]))
		old := worst
		worst = 0
		for i := range k {
			w[i] = ritz[dim-1-i]
			Axpy64(ay[i*n:], -w[i], y[i*n:][:n])
			r := ay[i*n:][:n]
			worst = max(worst, math.Sqrt(Dot64(r, r)))
		}
		if worst <= tol*norm {
			copy(v[:k*n], y)
			return true
		}
		if round > 1 && tooSlow(tol*norm/worst, worst/old, krylovRestarts-round) {
			return false
		}
		copy(s.q, y)
	}
	return false
}

// tooSlow reports whether an error that each round multiplies by rate stays above goal times itself for more than left
// rounds.
func tooSlow(goal, rate float64, left int) bool {
	return !(rate < 1) || math.Log(goal) < float64(left)*math.Log(rate)
}

// orthonormalize makes the block of rows from lo of q orthonormal, and orthogonal to the rows before: twice, since the first
// time may leave what cancellation brought up.
func (s *krylov) orthonormalize(lo int) {
	n, b := s.n, s.block
	x := s.q[lo*n : (lo+b)*n]
	p := make([]float64, b*lo)
	for range 2 {
		s.unit(x)
		if lo > 0 {
			GemmNT64(p, lo, x, n, s.q, n, b, lo, n, 1, 0, s.par)
			GemmNN64(x, n, p, lo, s.q, n, b, n, lo, -1, 1, s.par)
			s.unit(x)
		}
		if !s.triangular(x) {
			s.oneByOne(x)
		}
	}
}

// triangular makes the rows of x orthonormal up to the square root of rounding, by the Cholesky factor of their products,
// or returns false where they are too close to dependent for that.
func (s *krylov) triangular(x []float64) bool {
	n, b := s.n, s.block
	gram := make([]float64, b*b)
	GemmNT64(gram, b, x, n, x, n, b, b, n, 1, 0, s.par)
	if Cholesky(gram, b, nil) != nil {
		return false
	}
	for i := range b {
		if gram[i*b+i] < 1e-4 {
			return false
		}
	}
	solveLeft(gram, b, b, x, n, n, s.par)
	return true
}

// oneByOne makes the rows of x orthonormal by Gram and Schmidt's process; rows that depend on others become random ones.
func (s *krylov) oneByOne(x []float64) {
	n := s.n
	for i := range s.block {
		row := x[i*n:][:n]
		for {
			before := Dot64(row, row)
			for j := range i {
				Axpy64(row, -Dot64(row, x[j*n:]), x[j*n:][:n])
			}
			if after := Dot64(row, row); after > 1e-24*max(before, 1e-24) {
				scale64(row, 1/math.Sqrt(after))
				break
			}
			for j := range row {
				row[j] = s.rng.NormFloat64()
			}
		}
	}
}

// unit scales rows to length 1, and leaves zeros.
func (s *krylov) unit(x []float64) {
	for i := range s.block {
		row := x[i*s.n:][:s.n]
		top := 0.0
		for _, v := range row {
			top = max(top, math.Abs(v))
		}
		if top > 0 {
			scale64(row, 1/top)
			scale64(row, 1/math.Sqrt(Dot64(row, row)))
		}
	}
}

func scale64(x []float64, alpha float64) {
	for i := range x {
		x[i] *= alpha
	}
}
