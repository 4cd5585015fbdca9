// The gradients of attention over heads of up to 64 channels.
#include "attnback.cuh"

ATTNBACK_KEYS(64, 1, 2, 4, 1, 32, 2)
ATTNBACK_KEYS(64, 3, 1, 4, 1, 16, 2)
ATTNBACK_QUERIES(64, 1, 2, 4, 1, 64, 2)
ATTNBACK_QUERIES(64, 3, 1, 4, 1, 32, 2)
