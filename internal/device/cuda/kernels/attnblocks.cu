// Sums of attention over blocks of queries and keys. See attnblocks.cuh.
#include "attnblocks.cuh"

// scale is that of scores times log2(e), lse natural. The names are those of attnstats.cu.
#define BLOCKS(NAME, TERMS, KEPT, STAGES, N)                                                                                                 \
	BOUNDED(NAME, 256, N)                                                                                                                     \
	(double *blocks, int width, int number, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads, int group,    \
	 int t, int tp, int panels, float scale) {                                                                                                \
		attn_blocks<TERMS, KEPT, STAGES>(blocks, width, number, q, k, lse, masks, heads, group, t, tp, panels, scale);                            \
	}                                                                                                                                         \
	EXPORT(NAME)

BLOCKS(attn_blocks_1_kept, 1, true, 4, 2)
BLOCKS(attn_blocks_3_kept, 3, true, 2, 2)
BLOCKS(attn_blocks_3_passing, 3, false, 2, 1)
BLOCKS(attn_blocks_3_single, 3, false, 1, 1)
