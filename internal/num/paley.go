package num

import "sync"

// maxPaley bounds the order of the matrices of Paley's constructions that are used.
const maxPaley = 1024

// hadamardBase returns the smallest K with n = K*2^s that is 1 or the order of a Paley matrix.
func hadamardBase(n int) (k int, ok bool) {
	if n <= 0 {
		return 0, false
	}
	if n&(n-1) == 0 {
		return 1, true
	}
	k = n
	for k%2 == 0 {
		k /= 2
	}
	for k *= 4; k <= n && k <= maxPaley; k *= 2 {
		if n%k != 0 {
			return 0, false
		}
		if p, _ := primePower(k - 1); p != 0 && (k-1)%4 == 3 {
			return k, true
		}
		if p, _ := primePower(k/2 - 1); p != 0 && (k/2-1)%4 == 1 {
			return k, true
		}
	}
	return 0, false
}

// HadamardFactor returns the small factor of the matrix of Hadamard of size n, P [k, k] of entries ±1, row by row; k is 1 where there is none.
// It panics on sizes that HadamardSizeOK refuses.
func HadamardFactor(n int) (p []float64, k int) {
	k, ok := hadamardBase(n)
	if !ok {
		panic("num: HadamardFactor: no matrix of this size")
	}
	if k == 1 {
		return []float64{1}, 1
	}
	return paley[float64](k), k
}

// primePower returns p and e with q = p^e, e <= 3 and p an odd prime, or zeros.
func primePower(q int) (p, e int) {
	for d := 3; d*d <= q; d += 2 {
		if q%d != 0 {
			continue
		}
		for q%d == 0 {
			q /= d
			e++
		}
		if q != 1 || e > 3 {
			return 0, 0
		}
		return d, e
	}
	if q < 3 || q%2 == 0 {
		return 0, 0
	}
	return q, 1
}

var paleyCache sync.Map // paleyKey[T] → []T

// paleyKey is the order of a matrix of values of type T.
type paleyKey[T float] int

// paley returns the matrix of paleySigns in another type.
func paley[T float](k int) []T {
	if m, ok := paleyCache.Load(paleyKey[T](k)); ok {
		return m.([]T)
	}
	m := make([]T, k*k)
	for i, s := range paleySigns(k) {
		m[i] = T(s)
	}
	paleyCache.Store(paleyKey[T](k), m)
	return m
}

// paleySigns returns a Hadamard matrix of order k, entries ±1, row by row.
func paleySigns(k int) []int8 {
	var m []int8
	if p, e := primePower(k - 1); p != 0 && (k-1)%4 == 3 {
		m = paleyI(jacobsthal(p, e), k)
	} else {
		p, e := primePower(k/2 - 1)
		m = paleyII(jacobsthal(p, e), k)
	}
	return m
}

// paleyI is I + S for q ≡ 3 (mod 4), where S is the skew matrix [0 1; -1 Q].
func paleyI(q []int8, k int) []int8 {
	m := make([]int8, k*k)
	for i := range k {
		for j := range k {
			switch {
			case i == j:
				m[i*k+j] = 1
			case i == 0:
				m[i*k+j] = 1
			case j == 0:
				m[i*k+j] = -1
			default:
				m[i*k+j] = q[(i-1)*(k-1)+j-1]
			}
		}
	}
	return m
}

// paleyII replaces each entry of the symmetric matrix C = [0 1; 1 Q], q ≡ 1 (mod 4), by a block of two by two: 0 by
// [1 -1; -1 -1] and ±1 by ±[1 1; 1 -1].
func paleyII(q []int8, k int) []int8 {
	h := k / 2
	m := make([]int8, k*k)
	for i := range h {
		for j := range h {
			c := int8(1)
			if i > 0 && j > 0 {
				c = q[(i-1)*(h-1)+j-1]
			}
			block := [4]int8{c, c, c, -c}
			if i == j {
				block = [4]int8{1, -1, -1, -1}
			}
			m[2*i*k+2*j], m[2*i*k+2*j+1] = block[0], block[1]
			m[(2*i+1)*k+2*j], m[(2*i+1)*k+2*j+1] = block[2], block[3]
		}
	}
	return m
}

// jacobsthal returns Q[a,b] = χ(a-b) over the field of p^e elements, χ being 1 on squares, -1 on other elements and 0
// at 0. Elements are numbered by the base-p digits of their polynomials.
func jacobsthal(p, e int) []int8 {
	q := 1
	for range e {
		q *= p
	}
	chi := make([]int8, q)
	for a := 1; a < q; a++ {
		chi[a] = -1
	}
	modulus := irreducible(p, e)
	for a := 1; a < q; a++ {
		chi[fieldSquare(a, p, e, modulus)] = 1
	}
	m := make([]int8, q*q)
	for a := range q {
		for b := range q {
			m[a*q+b] = chi[fieldSub(a, b, p)]
		}
	}
	return m
}

// irreducible returns the low coefficients of a monic polynomial of degree e <= 3 over the integers mod p that has no
// root, which at those degrees means that it has no factor.
func irreducible(p, e int) [3]int {
	var c [3]int
	if e == 1 {
		return c // x itself: digits are residues
	}
	for code := 1; ; code++ {
		for i, v := 0, code; i < e; i++ {
			c[i], v = v%p, v/p
		}
		rooted := false
		for x := range p {
			v := 1
			for i := e - 1; i >= 0; i-- {
				v = (v*x + c[i]) % p
			}
			rooted = rooted || v == 0
		}
		if !rooted {
			return c
		}
	}
}

// fieldSquare returns a*a modulo the polynomial.
func fieldSquare(a, p, e int, modulus [3]int) int {
	var d [3]int
	for i := range e {
		d[i], a = a%p, a/p
	}
	var s [5]int
	for i := range e {
		for j := range e {
			s[i+j] = (s[i+j] + d[i]*d[j]) % p
		}
	}
	for i := 2*e - 2; i >= e; i-- {
		for j := range e {
			s[i-e+j] = (s[i-e+j] + (p-s[i])*modulus[j]) % p
		}
		s[i] = 0
	}
	r := 0
	for i := e - 1; i >= 0; i-- {
		r = r*p + s[i]
	}
	return r
}

// fieldSub returns a-b digit by digit.
func fieldSub(a, b, p int) int {
	r, unit := 0, 1
	for a > 0 || b > 0 {
		r += (a%p - b%p + p) % p * unit
		a, b, unit = a/p, b/p, unit*p
	}
	return r
}
