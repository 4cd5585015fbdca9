package device

// AttnReader is a device that reads off parts of attention where it lies, so that a host that cannot address queries, keys and outputs need
// not copy them whole. q, k, v, lse and masks are those of [Device.Attention], for one sequence, and values are rounded where that rounds
// them. Rows are queries, in any order, also more than once.
type AttnReader interface {
	// AttnRows: a[h, r, j] is the attention of query rows[r] of head h to key j of all T, 0 where it does not see it.
	AttnRows(a []float32, rows []int, q, k, lse Buf, s AttnShape, masks []Mask)
	// AttnMass: mass[h, g] is the attention of head h in the spans [ends[g-1], ends[g]) together, ends[-1] being 0, in float64.
	AttnMass(mass []float64, spans []AttnSpan, ends []int, q, k, lse Buf, s AttnShape, masks []Mask)
	// AttnLikeness: dst[h] is Σ A*B, Σ A² and Σ B² over all queries and keys, with A and B the attention of head h of two calls of as
	// many positions and query heads. Sums are in float64.
	AttnLikeness(dst [][3]float64, a, b AttnInput)
	// AttnOver: out[r, h, :] and lse[h, r] are the output and the log of the sum of exponentials of query rows[r] of head h over
	// the keys j <= rows[r] for which bit j%64 of seen[h, r, j/64] is set, with ⌈T/64⌉ words a row; zeros and -Inf where there is none.
	AttnOver(out, lse []float32, seen []uint64, rows []int, q, k, v Buf, s AttnShape)
	// HeadGaps: gap[h] = Σ_t |a[t,h,:]-b[t,h,:]|² and size[h] = Σ_t |a[t,h,:]|² over the rows of a and b [T, H*K] from `from` on, in float64.
	HeadGaps(gap, size []float64, a, b Buf, from int, s AttnShape)
}

// AttnSpan is a query and the keys [Lo, Hi) of it, of which those count that it sees.
type AttnSpan struct {
	Row, Lo, Hi int32
}

// AttnInput is what attention is made from and the log-sum-exp that it gave.
type AttnInput struct {
	Q, K, LSE Buf
	Shape     AttnShape
	Masks     []Mask
}

// AttnWords is the number of words of a set of t keys.
func AttnWords(t int) int { return (t + 63) / 64 }
