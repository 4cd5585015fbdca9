// Package calib holds what a compression run feeds a model and how it judges one: documents and token windows with a
// digest, synthetic retrieval prompts, running second moments of layer inputs, perplexity, divergence between two models
// and retrieval accuracy.
//
// Everything here is a function of its inputs, its options and its seeds: no clock, no global randomness, sums in a fixed
// order. Raw text never leaves the package; plans and reports carry digests only.
package calib
