package llamacpp

import (
	"fmt"

	"modelpress/internal/arch"
)

// The architectures that this package writes and reads, by the names of GGUF files. deci is Llama whose layers differ.
const (
	archLlama = "llama"
	archDeci  = "deci"
	archQwen2 = "qwen2"
	archQwen3 = "qwen3"
	archGPT2  = "gpt2"
)

// Metadata keys, those of an architecture without its name and the dot before them.
const (
	keyArchitecture = "general.architecture"
	keyType         = "general.type"
	keyName         = "general.name"
	keyFileType     = "general.file_type"
	keyQuantVersion = "general.quantization_version"

	keyBlocks       = "block_count"
	keyContext      = "context_length"
	keyWidth        = "embedding_length"
	keyFFN          = "feed_forward_length"
	keyHeads        = "attention.head_count"
	keyKVHeads      = "attention.head_count_kv"
	keyKeyLength    = "attention.key_length"
	keyValueLength  = "attention.value_length"
	keyRMSEps       = "attention.layer_norm_rms_epsilon"
	keyLayerNormEps = "attention.layer_norm_epsilon"
	keyVocab        = "vocab_size"
	keyTheta        = "rope.freq_base"
	keyRotated      = "rope.dimension_count"
	keyScaling      = "rope.scaling.type"
	keyFactor       = "rope.scaling.factor"
	keyOriginal     = "rope.scaling.original_context_length"
	keyAttnFactor   = "rope.scaling.attn_factor"
)

// Tensors that belong to no layer.
const (
	nameRopeFreqs  = "rope_freqs.weight"
	nameEmbed      = "token_embd.weight"
	namePosition   = "position_embd.weight"
	nameOutputNorm = "output_norm"
	nameOutput     = "output.weight"
)

// Names of what a layer has, after "blk.N.".
const (
	nameAttnNorm = "attn_norm"
	nameFFNNorm  = "ffn_norm"
	nameQNorm    = "attn_q_norm"
	nameKNorm    = "attn_k_norm"
	nameQKV      = "attn_qkv"
)

// linears names the projections and says what each is used for.
var linears = [arch.NumRoles]struct {
	name string
	use  Use
}{
	arch.Q: {"attn_q", AttnQ}, arch.K: {"attn_k", AttnK}, arch.V: {"attn_v", AttnV}, arch.O: {"attn_output", AttnOutput},
	arch.Gate: {"ffn_gate", FFNGate}, arch.Up: {"ffn_up", FFNUp}, arch.Down: {"ffn_down", FFNDown},
}

// inLayer returns the name of a module's tensor in layer l.
func inLayer(l int, module, suffix string) string {
	return fmt.Sprintf("blk.%d.%s%s", l, module, suffix)
}
