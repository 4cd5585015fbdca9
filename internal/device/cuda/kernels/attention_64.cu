// Attention over heads of up to 64 channels.
#include "attention.cuh"

ATTENTION(64, 1, 2, 4, 64)
ATTENTION(64, 3, 1, 4, 64)
