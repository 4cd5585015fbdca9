package llamacpp

// Use says what a tensor is for, as far as the rules of types ask.
type Use uint8

// The uses of tensors.
const (
	Other Use = iota // norms, biases, frequencies
	Embed
	Position
	Output
	AttnQ
	AttnK
	AttnV
	AttnQKV
	AttnOutput
	FFNGate
	FFNUp
	FFNDown
)

// String returns the use as llama.cpp writes it in names.
func (u Use) String() string {
	return [...]string{"other", "token_embd", "position_embd", "output", "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output",
		"ffn_gate", "ffn_up", "ffn_down"}[u]
}

// Tensor is one tensor of a GGUF file and how it comes from the checkpoint. Rows are those of the outermost dimension; a vector is
// one row.
type Tensor struct {
	Name  string
	Shape []int64 // outermost dimension first: [out, in] for a weight, [n] for a vector
	From  string  // the tensor of the checkpoint; "" where Values are the tensor

	// Heads is above 0 where the rows of each of so many heads stand in another order: llama.cpp rotates neighbouring rows of q and k
	// under the architectures llama and deci, transformers rotates rows half a head apart. Row 2j+t of a head is row t*K/2+j there.
	Heads int
	// Transposed is set where the checkpoint stores [in, out].
	Transposed bool
	Values     []float32 // of a tensor that is computed
	Vector     bool      // one dimension: always F32
	Use        Use
	Layer      int // -1 where it belongs to no layer
}

// Size returns the number of rows, and of the values in a row.
func (t *Tensor) Size() (rows, columns int64) {
	if len(t.Shape) == 1 {
		return 1, t.Shape[0]
	}
	return t.Shape[0], t.Shape[1]
}
