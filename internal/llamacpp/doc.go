// Package llamacpp knows what llama.cpp calls things: the metadata keys of a model's sizes, the names, order and row order of its
// tensors, the type of each tensor in a quantized file, and the tokenizer as GGUF holds it. [Describe], [Mix] and [Tokenizer] go from a
// Hugging Face checkpoint to a GGUF file, [Open] comes back. Nothing here writes a file.
//
// What is said of llama.cpp was read in its source and checked against two builds: c392e50 of February 2025 and 3f545be of August 2026.
package llamacpp
