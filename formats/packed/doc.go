// Package packed writes and reads the weights of compressed-tensors checkpoints: integers of 4 and 8 bits (pack-quantized, with one scale
// for each group of columns or output row, symmetric or not, in an order of columns of their own or not; int-quantized), FP8 with a scale
// for the tensor, the row or a block (float-quantized), NVFP4 and MXFP4. It also reads mxfp8-quantized, quant_method "fp8" and ModelOpt.
//
// An integer code q is signed, in [-2^(b-1), 2^(b-1)-1]; the weight it stands for is (q - zero) * scale, rounded to the type of the scale.
// Packed codes are shifted by 2^(b-1) to be unsigned and form a little-endian bit stream cut into 32-bit words. A code that is a float stands
// for its value times the scale, rounded to the type of the scale, or to BF16 where the scale is no value of a type of weights.
package packed
