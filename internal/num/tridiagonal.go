package num

import (
	"math"
	"slices"
)

// epsilon is the distance from 1 to the next float64.
const epsilon = 0x1p-52

// secular is the divide and conquer solver of symmetric tridiagonal eigenproblems (Cuppen, Numer. Math. 36, 1981; Gu and
// Eisenstat, SIAM J. Matrix Anal. Appl. 16, 1995) with its scratch.
//
// Two halves meet in one off-diagonal value: the whole is their direct sum plus rho*u·uᵀ. In the basis of their
// eigenvectors that is a diagonal plus rho*z·zᵀ, whose eigenvalues are the roots of 1 + rho*Σ z²/(d-λ). Where z or a gap of
// d is negligible an eigenvalue stays as it is (deflation) and leaves the problem, so that the product which gives the new
// vectors is often much smaller than n³.
type secular struct {
	par              Par
	old, delta       []float64 // vectors before a merge; d[i]-λ[j] at [j, i], then the vectors in the old basis
	d, z, value, hat []float64
	order, kept      []int
	side             []uint8 // which columns an old vector fills: 1 left, 2 right, 3 both
	at               []int
}

func newSecular(n int, par Par) *secular {
	f := func(n int) []float64 { return make([]float64, n) }
	return &secular{par: par, old: f(n * n), delta: f(n * n), d: f(n), z: f(n), value: f(n), hat: f(n), order: make([]int, n),
		side: make([]uint8, n), at: make([]int, n)}
}

// solve overwrites d with the eigenvalues, ascending, of the tridiagonal with diagonal d and off-diagonal e, which it
// destroys, and z, square with leading dimension ld and zero at first, with the eigenvectors as rows.
func (s *secular) solve(d, e, z []float64, ld int) {
	n := len(d)
	if n <= leaf {
		tridiagonalQL(d, e, z, ld)
		return
	}
	m := n / 2
	rho, sign := math.Abs(e[m-1]), math.Copysign(1, e[m-1])
	d[m-1] -= rho
	d[m] -= rho
	s.solve(d[:m], e[:m-1], z, ld)
	s.solve(d[m:], e[m:], z[m*ld+m:], ld)
	for i := range n { // u is the last unit vector of the left half and sign times the first of the right one
		if s.side[i] = 1; i < m {
			s.z[i] = z[i*ld+m-1] / math.Sqrt2
		} else {
			s.side[i], s.z[i] = 2, sign*z[i*ld+m]/math.Sqrt2
		}
	}
	s.merge(d, z, ld, m, 2*rho)
}

// merge turns the eigenvalues d and vectors z of the two halves into those of the direct sum plus rho*s.z·s.zᵀ.
func (s *secular) merge(d, z []float64, ld, m int, rho float64) {
	n := len(d)
	s.deflate(d, z, ld, rho)
	k := len(s.kept)
	for i, o := range s.kept {
		s.d[i], s.hat[i] = d[o], s.z[o]
	}
	each(s.par, ceilDiv(k, 16), func(t int) {
		for j := 16 * t; j < min(k, 16*t+16); j++ {
			s.value[j] = root(s.delta[j*k:][:k], s.d[:k], s.hat[:k], rho, j)
		}
	})
	left, right := s.group()
	s.weights()
	s.vectors()
	for i := range n {
		copy(s.old[i*n:][:n], z[i*ld:][:n])
	}
	// Old vectors go where the columns of delta expect them; deflated ones after them.
	rows := slices.Clone(s.kept)
	for i, o := range s.kept {
		rows[s.at[i]] = o
	}
	for i, o := range rows {
		copy(z[i*ld:][:n], s.old[o*n:][:n])
	}
	dead := k
	for i := range n { // those that have left, with their values
		if !s.alive(i) {
			copy(z[dead*ld:][:n], s.old[i*n:][:n])
			s.value[dead] = d[i]
			dead++
		}
	}
	new := s.old
	GemmNN64(new, n, s.delta, k, z, ld, k, m, left, 1, 0, s.par)
	GemmNN64(new[m:], n, s.delta[right:], k, z[right*ld+m:], ld, k, n-m, k-right, 1, 0, s.par)
	for i := k; i < n; i++ {
		copy(new[i*n:][:n], z[i*ld:][:n])
	}
	order := s.order[:n]
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(s.value[a], s.value[b]) })
	for i, o := range order {
		d[i] = s.value[o]
		copy(z[i*ld:][:n], new[o*n:][:n])
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// alive reports whether old vector i takes part in the secular equation.
func (s *secular) alive(i int) bool { return s.side[i]&4 == 0 }

// deflate finds the old vectors that are eigenvectors of the whole up to rounding, marks them with bit 4 of side, and
// lists the others in kept, their d strictly ascending. Where two values of d are so close that the difference does not
// matter, a rotation of their vectors takes one of them out (as LAPACK's dlaed2).
func (s *secular) deflate(d, z []float64, ld int, rho float64) {
	n := len(d)
	order := s.order[:n]
	top := 0.0
	for i := range order {
		order[i] = i
		top = max(top, math.Abs(d[i]), math.Abs(s.z[i]))
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(d[a], d[b]) })
	tol := 8 * epsilon * top
	s.kept = s.kept[:0]
	for _, i := range order {
		if rho*math.Abs(s.z[i]) <= tol {
			s.side[i] |= 4
			continue
		}
		if last := len(s.kept) - 1; last >= 0 {
			p := s.kept[last]
			r := math.Hypot(s.z[p], s.z[i])
			c, sn := s.z[i]/r, -s.z[p]/r
			if gap := d[i] - d[p]; math.Abs(gap*c*sn) <= tol {
				s.z[i], s.z[p] = r, 0
				rotate(z[p*ld:][:n], z[i*ld:][:n], c, sn)
				d[p], d[i] = d[p]*c*c+d[i]*sn*sn, d[p]*sn*sn+d[i]*c*c
				if s.side[i] != s.side[p] {
					s.side[i], s.side[p] = 3, 3
				}
				s.side[p] |= 4
				s.kept[last] = i
				continue
			}
		}
		s.kept = append(s.kept, i)
	}
}

// rotate replaces x by c*x+s*y and y by c*y-s*x.
func rotate(x, y []float64, c, s float64) {
	for i, u := range x {
		v := y[i]
		x[i] = float64(c*u) + float64(s*v)
		y[i] = float64(c*v) - float64(s*u)
	}
}

// group sets at[i], the place of kept vector i when those that fill the left columns alone come first, then those that fill
// both, then the right ones. It returns how many reach left, and how many do not reach right.
func (s *secular) group() (left, right int) {
	n := 0
	for _, side := range []uint8{1, 3, 2} {
		for i, o := range s.kept {
			if s.side[o] == side {
				s.at[i] = n
				n++
			}
		}
		switch side {
		case 1:
			right = n
		case 3:
			left = n
		}
	}
	return left, right
}

// weights replaces z by the one for which the roots found are exact, from the products of their distances (Gu and
// Eisenstat): vectors computed from it are orthogonal however close the roots are.
func (s *secular) weights() {
	k := len(s.kept)
	hat, d := s.hat[:k], s.d
	each(s.par, ceilDiv(k, 64), func(t int) {
		lo, hi := 64*t, min(k, 64*t+64)
		var prod [64]float64
		for i := lo; i < hi; i++ {
			prod[i-lo] = -s.delta[i*k+i]
		}
		for j := range k {
			row := s.delta[j*k:][:k]
			for i := lo; i < hi; i++ {
				if i != j {
					prod[i-lo] *= row[i] / (d[i] - d[j])
				}
			}
		}
		for i := lo; i < hi; i++ {
			hat[i] = math.Copysign(math.Sqrt(max(prod[i-lo], 0)), hat[i])
		}
	})
}

// vectors replaces each row of delta by the vector of its root, hat/delta normalised, with component i at at[i].
func (s *secular) vectors() {
	k := len(s.kept)
	byRows(s.par, k, 8*k, func(j int) {
		row, v := s.delta[j*k:][:k], make([]float64, k)
		var norm float64
		for i, h := range s.hat[:k] {
			u := h / row[i]
			v[s.at[i]] = u
			norm += float64(u * u)
		}
		norm = 1 / math.Sqrt(norm)
		for i, u := range v {
			row[i] = float64(u * norm)
		}
	})
}

// root finds root j of 1 + rho*Σ z[i]²/(d[i]-λ), which lies above d[j] and below d[j+1] or, past the last, d[j]+rho*Σz². It
// fills delta with d[i]-λ, each to full relative precision, since λ is sought as a distance from the nearer pole, and
// returns λ.
//
// Each step replaces the sums over the poles below and above by one pole each, with the same value and slope (Bunch,
// Nielsen and Sorensen, Numer. Math. 31, 1978), and solves the quadratic; what leaves the bracket is bisected.
func root(delta, d, z []float64, rho float64, j int) float64 {
	last := j == len(d)-1
	origin, lo, hi := d[j], 0.0, rho
	if last {
		var sum float64
		for _, v := range z {
			sum += float64(v * v)
		}
		hi = rho * sum
	} else {
		hi = (d[j+1] - d[j]) / 2
		for i := range d {
			delta[i] = d[i] - d[j]
		}
		if f, _, _, _ := secularAt(delta, z, rho, hi, j); f < 0 {
			origin, lo, hi = d[j+1], -hi, 0
		}
	}
	for i := range d {
		delta[i] = d[i] - origin
	}
	x := (lo + hi) / 2
	for range 100 {
		f, bound, below, above := secularAt(delta, z, rho, x, j)
		if math.Abs(f) <= bound {
			break
		}
		if f < 0 {
			lo = x
		} else {
			hi = x
		}
		next := interpolate(delta, x, f, below, above, j, last)
		if !(next > lo && next < hi) {
			next = (lo + hi) / 2
		}
		if next == x || next <= lo || next >= hi {
			break
		}
		x = next
	}
	for i := range delta {
		delta[i] -= x
	}
	return origin + x
}

// secularAt returns the secular function at x, a bound on its rounding error, and the slopes of the sums over the poles up
// to j and beyond.
func secularAt(delta, z []float64, rho, x float64, j int) (f, bound, below, above float64) {
	var psi, phi float64
	for i, v := range z[:j+1] {
		t := v / (delta[i] - x)
		psi += float64(v * t)
		below += float64(t * t)
	}
	for i := len(z) - 1; i > j; i-- {
		t := z[i] / (delta[i] - x)
		phi += float64(z[i] * t)
		above += float64(t * t)
	}
	psi, phi, below, above = rho*psi, rho*phi, rho*below, rho*above
	bound = epsilon * (1 + 8*(phi-psi) + math.Abs(x)*(below+above))
	return 1 + psi + phi, bound, below, above
}

// interpolate returns the root of c + s/(p-t) + r/(q-t), which has value f and the two slopes at x and its poles p and q at
// delta[j] and delta[j+1]; without the second pole where last is set.
func interpolate(delta []float64, x, f, below, above float64, j int, last bool) float64 {
	p := delta[j] - x // all relative to x
	s := below * p * p
	if last {
		c := f - below*p
		return x + p + s/c
	}
	q := delta[j+1] - x
	c := f - below*p - above*q
	// c*(p-t)*(q-t) + s*(q-t) + r*(p-t) = 0, as a*t² - b*t + g with g = p*q*f
	a, g := c, p*q*f
	b := (p+q)*f - p*q*(below+above)
	disc := math.Sqrt(max(b*b-4*a*g, 0))
	if b <= 0 {
		return x + (b-disc)/(2*a)
	}
	return x + 2*g/(b+disc)
}

// tridiagonalQL is solve for a small matrix, by the QL iteration with implicit shifts (Bowdler, Martin, Reinsch and
// Wilkinson, Numer. Math. 11, 1968).
func tridiagonalQL(d, off, z []float64, ld int) {
	n := len(d)
	e := append(slices.Clone(off[:max(n-1, 0)]), 0)
	for i := range n {
		z[i*ld+i] = 1
	}
	for l := range n {
		for range 60 {
			m := l
			for m < n-1 && math.Abs(e[m]) > epsilon/2*(math.Abs(d[m])+math.Abs(d[m+1])) {
				m++
			}
			if m == l {
				break
			}
			sweepQL(d, e, z, ld, l, m)
		}
	}
	for i := range n { // by selection: n is small
		k := i
		for j := i + 1; j < n; j++ {
			if d[j] < d[k] {
				k = j
			}
		}
		if k != i {
			d[i], d[k] = d[k], d[i]
			for j := range n {
				z[i*ld+j], z[k*ld+j] = z[k*ld+j], z[i*ld+j]
			}
		}
	}
}

// sweepQL runs one implicit QL sweep over [l, m].
func sweepQL(d, e, z []float64, ld, l, m int) {
	n := len(d)
	g := (d[l+1] - d[l]) / (2 * e[l])
	g = d[m] - d[l] + e[l]/(g+math.Copysign(math.Hypot(g, 1), g))
	s, c, p := 1.0, 1.0, 0.0
	for i := m - 1; i >= l; i-- {
		f, b := s*e[i], c*e[i]
		r := math.Hypot(f, g)
		e[i+1] = r
		if r == 0 {
			d[i+1] -= p
			e[m] = 0
			return
		}
		s, c = f/r, g/r
		g = d[i+1] - p
		r = (d[i]-g)*s + 2*c*b
		p = s * r
		d[i+1] = g + p
		g = c*r - b
		rotate(z[(i+1)*ld:][:n], z[i*ld:][:n], c, s)
	}
	d[l] -= p
	e[l] = g
	e[m] = 0
}
