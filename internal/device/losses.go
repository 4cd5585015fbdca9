package device

// Losses is a device that takes losses of logits where they lie, so that a host that cannot address them need not copy them. Logits are
// F32, rows of v values. Values that are not finite make the losses of their rows so.
type Losses interface {
	// Scores: nll[i] = -log softmax(logits[i,:])[targets[i]], in nats, and top[i] is the place of the largest value of row i, the first of
	// equals, over len(nll) rows. Targets are within [0, v); nil stands for the largest values.
	Scores(nll []float64, top []int32, logits Buf, targets []int32, v int)
	// Divergences: kl[i] = KL(softmax(p[i,:]) ‖ softmax(q[i,:])), in nats, over len(kl) rows. It is at least 0, and 0 for equal rows.
	Divergences(kl []float64, p, q Buf, v int)
	// LogitLoss replaces logits s by a gradient by them: with q = softmax(Scale*s) and p = softmax(Scale*t) of the teacher's logits t,
	//
	//	KL*(q - p) + CE*(softmax(s) - one_hot(target))
	//
	// and sets kl[i] = KL(p ‖ q) and ce[i] = -log softmax(s)[target] of row i of len(kl), in nats. teacher may be nil, and targets nil or
	// a target negative: that part is 0 then.
	LogitLoss(kl, ce []float64, logits, teacher Buf, targets []int32, v int, w LogitWeights)
	// TopK finds the k largest values of each of len(rest) rows, 0 < k < v: their places in ids [rows, k], ascending, of equal values the
	// first; the natural logarithms of softmax(scale*logits) there in logs [rows, k], and that of all other values together in rest.
	TopK(ids []int32, logs, rest []float32, logits Buf, v, k int, scale float32)
	// TopKLoss is LogitLoss for a teacher of whom TopK is known, k = len(ids)/len(kl). The divergence is that of k+1 outcomes, and in its
	// gradient KL*(q - p) the p of others is what q gives them, scaled to the sum that is known.
	TopKLoss(kl, ce []float64, logits Buf, ids []int32, logs, rest []float32, targets []int32, v int, w LogitWeights)
}

// LogitWeights are the factors of a loss of logits: of logits in the divergence, 1/τ for a temperature τ, and of the parts of the gradient.
type LogitWeights struct {
	Scale, KL, CE float32
}
