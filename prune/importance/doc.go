// Package importance measures what the units of a model are worth, for pruning without learnt masks: by activations and by what layers
// change (Minitron), by a Taylor series of the loss (LLM-Pruner), by magnitude, and at random as the baseline of all. Every
// measure fills in the same [prune.Scores], for channels of the residual stream, KV heads with their query heads, FFN channels and
// layers. Models are streamed block by block, as everywhere.
//
// Scores say what goes from a kind of unit. How much of each kind goes is a search over shapes ([Search]), and a cut may be made in
// several rounds, each of which measures what the one before it left ([Rounds]).
//
// Letters as in internal/nn: T tokens of a window, L layers, D width, H query heads, G KV heads, K head dim, F FFN width, V
// vocabulary.
package importance
