// The gradients of attention over heads of up to 128 channels.
#include "attnback.cuh"

ATTNBACK_KEYS(128, 1, 1, 4, 1, 64, 2)
ATTNBACK_KEYS(128, 3, 1, 4, 2, 32, 1)
ATTNBACK_QUERIES(128, 1, 2, 4, 1, 32, 2)
ATTNBACK_QUERIES(128, 3, 1, 2, 1, 32, 1)
