// Column sums of attention. See columnsums.cuh.
#include "columnsums.cuh"

// Of sums and rounded one is null; both are [heads, t]. scale is that of scores times log2(e), lse natural. The names are the number of
// planes and how rows pass by; kernels of one plane take 128 keys a block, those of three 64.
#define COLUMN_SUMS(NAME, TERMS, KEYS, KEPT, STAGES, BLOCKS)                                                                                \
	BOUNDED(NAME, 256, BLOCKS)                                                                                                               \
	(double *sums, float *rounded, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads, int group, int t,     \
	 int tp, int panels, float scale) {                                                                                                      \
		column_sums<TERMS, KEYS, KEPT, STAGES>(sums, rounded, q, k, lse, masks, heads, group, t, tp, panels, scale);                         \
	}                                                                                                                                        \
	EXPORT(NAME)

COLUMN_SUMS(column_sums_1_kept, 1, 128, true, 4, 2)
COLUMN_SUMS(column_sums_3_kept, 3, 64, true, 2, 2)
COLUMN_SUMS(column_sums_3_passing, 3, 64, false, 2, 1)
