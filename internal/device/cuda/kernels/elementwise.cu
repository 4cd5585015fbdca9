// Sums of vectors, columns that are shifted or scaled, rows of a table. All of it is bound by memory.
#include "vector.cuh"

// add: y += x over n values. 12 bytes are moved for each.
KERNEL(add)(float *y, const float *x, long long n) {
	map4(y, y, x, n, [](float a, float b) { return a + b; });
}
EXPORT(add)

// add_bias: y[i,:] += bias over rows of n values. 8 bytes are moved for each.
KERNEL(add_bias)(float *y, const float *bias, long long rows, int n) {
	bool wide = wide4(n, y) && aligned(bias);
	tile_rows(rows, n, [=](long long i, int c) {
		float4 v = load4(y + i * n, c, n, wide), b = load4(bias, c, n, wide);
		store4(y + i * n, c, n, wide, each4(v, b, [](float a, float b) { return a + b; }));
	});
}
EXPORT(add_bias)

// scale_columns: y[i,:] = x[i,:]*z over rows of n values. 8 bytes are moved for each.
KERNEL(scale_columns)(float *y, const float *x, const float *z, long long rows, int n) {
	bool wide = wide4(n, y) && aligned(x) && aligned(z);
	tile_rows(rows, n, [=](long long i, int c) {
		float4 v = load4(x + i * n, c, n, wide), s = load4(z, c, n, wide);
		store4(y + i * n, c, n, wide, each4(v, s, [](float a, float b) { return a * b; }));
	});
}
EXPORT(scale_columns)

// gather: y[i,:] = table[ids[i],:], rows of n values of f32. 8 bytes are moved for each.
KERNEL(gather)(float *y, const float *table, const int *ids, long long rows, int n) {
	bool wide = wide4(n, y) && aligned(table);
	tile_rows(rows, n, [=](long long i, int c) { store4(y + i * n, c, n, wide, load4(table + (long long)ids[i] * n, c, n, wide)); });
}
EXPORT(gather)

// half4 reads values c to c+3 of n of a 16-bit kind, zeros beyond the end; wide says that 8 bytes can be read at once.
template <typename F>
DEVICE float4 half4(const uint16_t *p, int c, int n, bool wide, F to) {
	uint32_t a = 0, b = 0;
	if (wide) {
		const uint32_t *w = (const uint32_t *)(p + c);
		a = w[0];
		b = w[1];
	} else {
		a = p[c];
		if (c + 1 < n) a |= (uint32_t)p[c + 1] << 16;
		if (c + 2 < n) b = p[c + 2];
		if (c + 3 < n) b |= (uint32_t)p[c + 3] << 16;
	}
	float4 v = {to((uint16_t)a), to((uint16_t)(a >> 16)), to((uint16_t)b), to((uint16_t)(b >> 16))};
	return v;
}

// gather_half is gather from a table of a 16-bit kind. 6 bytes are moved for each value.
template <typename F>
DEVICE void gather_half(float *y, const uint16_t *table, const int *ids, long long rows, int n, F to) {
	bool wide = wide4(n, y), pairs = n % 4 == 0 && aligned(table);
	tile_rows(rows, n, [=](long long i, int c) { store4(y + i * n, c, n, wide, half4(table + (long long)ids[i] * n, c, n, pairs, to)); });
}

KERNEL(gather_bf16)(float *y, const uint16_t *table, const int *ids, long long rows, int n) {
	gather_half(y, table, ids, rows, n, [](uint16_t h) { return bf16_to(h); });
}
EXPORT(gather_bf16)

KERNEL(gather_f16)(float *y, const uint16_t *table, const int *ids, long long rows, int n) {
	gather_half(y, table, ids, rows, n, [](uint16_t h) { return f16_to(h); });
}
EXPORT(gather_f16)
