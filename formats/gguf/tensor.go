package gguf

import "modelpress/formats/ggml"

// Tensor describes one tensor of a file.
type Tensor struct {
	Name  string
	Type  ggml.Type
	Shape []int64 // outermost dimension first, as in safetensors; the file has them the other way round
}
