// Package packed writes and reads the weights of compressed-tensors checkpoints: "pack-quantized" (4 and 8 bits, one scale
// per group of columns or per output row, symmetric or asymmetric), and for reading also "int-quantized" with 8 bits.
//
// A code q is signed, in [-2^(b-1), 2^(b-1)-1]; the weight it stands for is (q - zero) * scale, rounded to the type of the
// scale. Stored codes are shifted by 2^(b-1) to be unsigned and form a little-endian bit stream cut into 32-bit words.
package packed
