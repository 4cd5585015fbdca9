// Package vib learns which units a model can do without: by noisy multipliers, as in VIBNet (Dai et al., arXiv:1802.10399), which
// VTrans (Dutta et al., arXiv:2406.05276) and TVA-Prune take to transformers. Weights may stay frozen; a search of a few hundred steps
// then costs a few hundred backward passes without gradients of weights.
//
// Units are the channels of the residual stream, one mask for the whole model; the KV heads of each layer, each with the query heads
// that read it, h of h/(H/G); the FFN channels of each layer; and whole layers, by one gate on what both sub-layers add to the stream.
// A unit is multiplied by z = mu + eps·sigma, with sigma² = D and one eps, standard normal, for each unit and window. It stays while
// log α = log D - log(mu²) is below 0: noise that is larger than the multiplier says that the model does not need to hear the unit.
//
// [Masks] carry that through [distill.Trainer] in two runs. The first searches: its objective, such as the divergence from the whole
// model's predictions, gets a prior that likes noise and a constraint on what is expected to stay, whose target rises over the run.
// Then [Masks.Portable] or [Masks.Compact] fixes what stays so that the target is met to the parameter, and the second run tunes the
// multipliers of what stays, without noise. [Masks.Cut] is the result: multipliers become scales that [prune.View] absorbs into
// weights. [Masks.Scores] rank all units by -log α for other uses.
package vib
