// The gradients of attention over heads of up to 256 channels.
#include "attnback.cuh"

ATTNBACK_KEYS(256, 1, 1, 4, 2, 32, 2)
ATTNBACK_KEYS(256, 3, 1, 2, 2, 16, 1)
ATTNBACK_QUERIES(256, 1, 1, 4, 1, 32, 1)
ATTNBACK_QUERIES(256, 3, 1, 2, 2, 16, 1)
