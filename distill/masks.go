package distill

import "modelpress/internal/nn"

// Evaluation stands for the step in [Masks.Begin] where nothing is trained.
const Evaluation = -1

// Masks multiply units of a model while it is trained, and learn with it. [Trainer] calls Begin once for each step, the others in
// between for its windows, which are numbered over all parts of the step, and End where the step has come to its end: a step that is
// given up is begun again. What Begin draws must be a function of what Vectors hold and of the step alone.
type Masks interface {
	// Begin draws what the windows of a step are multiplied by, and forgets the gradients of the one before. For [Evaluation] it
	// draws nothing: each unit is multiplied by what it would be left with now.
	Begin(step, windows int) error
	// Kept is Model.Kept during the step; nil for all channels.
	Kept() *nn.KeptChannels
	// EmbedGate multiplies the embedded tokens of a window, [D]; nil for ones.
	EmbedGate(window int) []float32
	// Gates multiply the units of a layer, and receive the gradients of the objective by them; nil for none.
	Gates(layer, window int) *nn.Gates
	// EmbedGrad is shown the embedded tokens x of a window before the gate, and the gradient after it, both [T, D] and valid during the
	// call.
	EmbedGrad(window int, x, grad []float32)
	// End adds the gradients of losses of its own and moves what is learnt. It returns these losses, which count as part of the
	// objective, and the norm of all its gradients.
	End(step int) (loss, norm float64, err error)
	// Vectors returns all that is learnt, with moments and multipliers, for a checkpoint: always the same names and lengths. Values read
	// from one are written into these slices.
	Vectors() []Vector
	// Report says how far it is, such as the expected sparsity.
	Report() []Measure
}

// Measure is a named number of a report.
type Measure struct {
	Name  string
	Value float64
}
