// Package prune leaves units of a transformer out: channels of the residual stream, KV heads with the query heads that read them, FFN
// channels, whole layers. It owns what such a cut is and how it is written ([Cut]), the smaller model as a view of the checkpoint
// ([View]), what a model costs ([Count], [Expect]), and the sizes that meet a target ([Shapes], [FitLayers]). What is worth keeping
// is for other packages to say, as [Scores].
//
// Letters as in internal/nn: D width, H query heads, G KV heads, K head dim, F FFN width, V vocabulary. A letter with a prime is
// what stays: D'.
package prune
