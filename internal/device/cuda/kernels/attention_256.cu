// Attention over heads of up to 256 channels.
#include "attention.cuh"

ATTENTION(256, 1, 1, 4, 64)
ATTENTION(256, 3, 1, 2, 16)
