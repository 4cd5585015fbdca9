// Package distill trains a student towards a teacher: the trainable copy of a model, losses with their gradients, and what
// carries a run of training from step to step.
//
// [Params] holds the weights that are trained under names of their own and shows them to nn as a model; [LoRA] puts low-rank
// adapters on top. [LogitLoss], [TopK], [Hidden] and [Relation] are losses as functions of rows on the host: each returns its
// value and turns into, or adds to, the gradient by the student's rows. [AdamW], [Schedule], [Order] and [EarlyStop] say what a
// step does with the gradients, and [WriteState] and [ReadState] keep all of it in one file. [Trainer] is the loop of steps towards an
// [Objective].
//
// Letters of shapes are those of nn. Every sum has a fixed order, whatever the number of threads.
package distill

import "modelpress/internal/num"

// each runs body(0), …, body(n-1) on par, which may be nil.
func each(par num.Par, n int, body func(i int)) {
	if par == nil || n == 1 {
		for i := range n {
			body(i)
		}
		return
	}
	if n > 0 {
		par(n, body)
	}
}
