// Attention over heads of up to 128 channels.
#include "attention.cuh"

ATTENTION(128, 1, 2, 4, 64)
ATTENTION(128, 3, 1, 4, 32)
