// Likeness of the attention of two layers. See attnalike.cuh.
#include "attnalike.cuh"

// Scales are those of scores times log2(e), lse natural.
#define ALIKE(TERMS, BLOCKS)                                                                                                                 \
	BOUNDED(attn_alike_##TERMS, 256, BLOCKS)                                                                                                  \
	(double *sums, const uint16_t *qa, const uint16_t *ka, const float *la, const int *ma, int panels_a, int group_a, float scale_a,           \
	 const uint16_t *qb, const uint16_t *kb, const float *lb, const int *mb, int panels_b, int group_b, float scale_b, int heads, int t,       \
	 int tp) {                                                                                                                                \
		attn_alike<TERMS>(sums, qa, ka, la, ma, panels_a, group_a, scale_a, qb, kb, lb, mb, panels_b, group_b, scale_b, heads, t, tp);        \
	}                                                                                                                                         \
	EXPORT(attn_alike_##TERMS)

ALIKE(1, 2)
ALIKE(3, 1)
