// Column sums of attention. See columnsums.cuh.
#include "columnsums.cuh"

// column_sums_1 takes 128 keys a block, column_sums_3 64. Of sums and rounded one is null; both are [heads, t]. scale is that of scores
// times log2(e), lse natural.
#define COLUMN_SUMS(TERMS, KEYS)                                                                                                            \
	BOUNDED(column_sums_##TERMS, 256, 2)                                                                                                     \
	(double *sums, float *rounded, const uint16_t *q, const uint16_t *k, const float *lse, const int *masks, int heads, int group, int t,     \
	 int tp, int panels, float scale) {                                                                                                      \
		column_sums<TERMS, KEYS>(sums, rounded, q, k, lse, masks, heads, group, t, tp, panels, scale);                                       \
	}                                                                                                                                        \
	EXPORT(column_sums_##TERMS)

COLUMN_SUMS(1, 128)
COLUMN_SUMS(3, 64)
