package device

import "strings"

// BF16Attention reports whether devices of a class round what attention multiplies to bfloat16: queries, keys, values, gradients and the
// attention itself. Sums are in f32 all the same.
func BF16Attention(class string) bool { return strings.HasPrefix(class, "cuda-bf16-") }
