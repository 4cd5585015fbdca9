// Package nn runs decoder-only transformers on a device, block by block: load a block, run it over every window, keep
// only the hidden states at its boundary, drop it. Peak memory is one block and the states, whatever the depth.
//
// Letters, used for shapes in the whole program: B batch, T time, D model width, H query heads, G KV heads, K head dim,
// F FFN width, V vocabulary. Matrices are row-major; a linear layer's weight is [Out, In].
package nn
