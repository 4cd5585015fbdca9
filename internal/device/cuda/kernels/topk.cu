// The likeliest tokens of rows of logits, and the loss of a student by them; see distill.TopK. A block takes a row, which is read seven times
// to select; for the loss it is read three times and written: 28 and 16 bytes are moved for each value where rows do not stay in the cache.
#include "softmax.cuh"

// key orders values as unsigned integers; both zeros are one.
DEVICE uint32_t key(float x) {
	uint32_t b = float_bits(x == 0 ? 0.0f : x);
	return b >> 31 ? ~b : b | 0x80000000u;
}

// part4 returns value i of four.
DEVICE float part4(float4 v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// Choice says what is among the largest values of a row: what is above the least of them, and those that equal it up to a place.
struct Choice {
	uint32_t least;
	int last;

	DEVICE bool has(float x, int at) const {
		uint32_t k = key(x);
		return k > least || (k == least && at <= last);
	}
};

// SelectShared is the shared memory of a block that selects.
struct SelectShared {
	SoftShared soft;
	int count[256];
	int warps[ROW_THREADS / 32];
	uint32_t prefix;
	int need, last;
};

// kth finds the k-th largest key of a row, a byte at a time, and how many of those that equal it belong to the k largest.
DEVICE uint32_t kth(const float *row, int v, bool wide, int k, SelectShared &shared) {
	uint32_t prefix = 0, mask = 0;
	int need = k;
	for (int shift = 24; shift >= 0; shift -= 8) {
		shared.count[threadIdx.x] = 0;
		__syncthreads();
		for (int c = 4 * threadIdx.x; c < v; c += 4 * ROW_THREADS) {
			float4 x = load4(row, c, v, wide);
			UNROLL for (int i = 0; i < 4; i++) {
				uint32_t b = key(part4(x, i));
				if (c + i < v && (b & mask) == prefix) atomicAdd(&shared.count[b >> shift & 255], 1);
			}
		}
		__syncthreads();
		if (threadIdx.x == 0) {
			int digit = 255;
			while (digit > 0 && shared.count[digit] < need) need -= shared.count[digit--];
			shared.prefix = prefix | (uint32_t)digit << shift;
			shared.need = need;
		}
		__syncthreads();
		prefix = shared.prefix;
		need = shared.need;
		mask |= 255u << shift;
	}
	return prefix;
}

// before returns the sum of x over the threads before this one, and in all that over the block.
DEVICE int before(int x, SelectShared &shared, int &all) {
	int s = x;
	for (int d = 1; d < 32; d *= 2) {
		int y = __shfl_up_sync(0xffffffffu, s, d);
		if (lane() >= d) s += y;
	}
	if (lane() == 31) shared.warps[warp()] = s;
	__syncthreads();
	all = 0;
	int sum = s - x;
	for (int w = 0; w < ROW_THREADS / 32; w++) {
		if (w < warp()) sum += shared.warps[w];
		all += shared.warps[w];
	}
	__syncthreads();
	return sum;
}

// collect writes the places of the k largest values of a row, ascending, of equal ones the first.
DEVICE Choice collect(int *ids, const float *row, int v, bool wide, uint32_t least, SelectShared &shared) {
	int need = shared.need, above = 0, equal = 0; // of the values so far
	for (int base = 0; base < v; base += 4 * ROW_THREADS) {
		int c = base + 4 * threadIdx.x, g = 0, e = 0, all;
		float4 x = load4(row, c, v, wide);
		UNROLL for (int i = 0; i < 4; i++)
			if (c + i < v) {
				g += key(part4(x, i)) > least;
				e += key(part4(x, i)) == least;
			}
		int both = before(g << 16 | e, shared, all), over = above + (both >> 16), same = equal + (both & 0xffff);
		UNROLL for (int i = 0; i < 4; i++) {
			uint32_t b = key(part4(x, i));
			if (c + i >= v || b < least) continue;
			int at = over + (same < need ? same : need);
			if (b > least) {
				ids[at] = c + i;
				over++;
				continue;
			}
			if (same < need) ids[at] = c + i;
			if (++same == need) shared.last = c + i;
		}
		above += all >> 16;
		equal += all & 0xffff;
	}
	__syncthreads();
	return Choice{least, shared.last};
}

// others looks at the values of a row that are not chosen.
template <typename F>
DEVICE Seen others(const float *row, int v, bool wide, SoftShared &shared, float scale, F chosen) {
	Seen s = {-INFINITY, 0, 0, 0x7fffffff};
	for (int c = 4 * threadIdx.x; c < v; c += 4 * ROW_THREADS) {
		float4 x = scores4(row, c, v, wide);
		if (chosen(x.x, c)) x.x = -INFINITY;
		if (chosen(x.y, c + 1)) x.y = -INFINITY;
		if (chosen(x.z, c + 2)) x.z = -INFINITY;
		if (chosen(x.w, c + 3)) x.w = -INFINITY;
		see(s, x, c, scale, false);
	}
	return join(s, shared, scale, false);
}

// share is the logarithm of the probability of all others together.
DEVICE double share(const Seen &other, const Seen &all, float scale) {
	if (other.top == -INFINITY) return -INFINITY;
	return ((double)other.top - all.top) * scale + log(other.sum) - log(all.sum);
}

// topk_select: ids [rows,k] are the places of the k largest values of each row, ascending, of equal ones the first; logs their natural
// logarithms of softmax(scale*x), and rest that of all others together.
KERNEL(topk_select)(int *ids, float *logs, float *rest, const float *x, int v, int k, float scale) {
	SHARED SelectShared shared;
	long long i = blockIdx.x;
	const float *row = x + i * v;
	bool wide = wide4(v, x);
	uint32_t least = kth(row, v, wide, k, shared);
	Choice choice = collect(ids + i * k, row, v, wide, least, shared);
	Seen all = soften(row, v, wide, shared.soft, scale, false);
	Seen other = others(row, v, wide, shared.soft, scale, [=](float x, int at) { return choice.has(x, at); });
	for (int j = threadIdx.x; j < k; j += ROW_THREADS) logs[i * k + j] = (float)Soft{all.top, all.sum}.log_at(row[ids[i * k + j]], scale);
	if (threadIdx.x == 0) rest[i] = (float)share(other, all, scale);
}
EXPORT(topk_select)

// outcome is p*log(p/q) + q - p of one outcome from the logarithms of p and q.
DEVICE double outcome(double p, double q) {
	if (p == -INFINITY) return exp(q);
	double d = p - q;
	if (fabs(d) < 0.25) return exp(p) * rest_of(d);
	return exp(p) * d + exp(q) - exp(p);
}

// topk_loss is logit_loss for a teacher of whom the logarithms of k tokens of each row, their places ascending, and of all others together are
// known: the divergence is that of k+1 outcomes, and the gradient leaves open how the student spreads the rest. It needs a bit of shared memory
// for each value.
KERNEL(topk_loss)(double *kl, double *ce, float *s, const int *ids, const float *logs, const float *rest, const int *targets, int v, int k, float scale,
                  float coef, float weight) {
	SHARED SoftShared shared;
	uint32_t *marks = (uint32_t *)dynamic_shared();
	long long i = blockIdx.x;
	float *row = s + i * v;
	const int *mine = ids + i * k;
	const float *known = logs + i * k;
	bool wide = wide4(v, s);
	for (int w = threadIdx.x; w < (v + 31) / 32; w += ROW_THREADS) marks[w] = 0;
	__syncthreads();
	for (int j = threadIdx.x; j < k; j += ROW_THREADS) atomicOr(&marks[mine[j] / 32], 1u << mine[j] % 32);
	int target = targets ? targets[i] : -1;
	bool apart = target >= 0 && scale != 1;
	Seen q = soften(row, v, wide, shared, scale, apart);
	if (!apart) q.plain = q.sum;
	Seen o = others(row, v, wide, shared, scale, [=](float, int at) { return at < v && marks[at / 32] >> at % 32 & 1; });
	double sum = threadIdx.x == 0 ? outcome(rest[i], share(o, q, scale)) : 0;
	for (int j = threadIdx.x; j < k; j += ROW_THREADS) sum += outcome(known[j], Soft{q.top, q.sum}.log_at(row[mine[j]], scale));
	sum = Team<ROW_THREADS>{shared.part}.sum(sum);
	if (threadIdx.x == 0) {
		kl[i] = sum;
		ce[i] = target < 0 ? 0 : -Soft{q.top, q.plain}.log_at(row[target], 1);
	}
	__syncthreads(); // before the row is overwritten
	float plain = target < 0 ? 0 : (float)(weight / q.plain), q_inv = (float)(1 / q.sum);
	float spread = o.top == -INFINITY ? 0 : (float)(exp((double)rest[i]) / o.sum);
	for (int c = 4 * threadIdx.x; c < v; c += 4 * ROW_THREADS) {
		float4 x = scores4(row, c, v, wide);
		float g[4];
		UNROLL for (int e = 0; e < 4; e++) {
			float value = part4(x, e), p = 0;
			if (c + e < v && marks[(c + e) / 32] >> (c + e) % 32 & 1) {
				int lo = 0, hi = k - 1; // where it stands among the places
				while (lo < hi) {
					int half = (lo + hi) / 2;
					if (mine[half] < c + e) lo = half + 1;
					else hi = half;
				}
				p = expf(known[lo]);
			} else {
				p = past(value, o.top, scale) * spread;
			}
			g[e] = coef * (past(value, q.top, scale) * q_inv - p);
			if (plain != 0) g[e] += plain * past(value, q.top, 1);
			if (target == c + e) g[e] -= weight;
		}
		store4(row, c, v, wide, float4{g[0], g[1], g[2], g[3]});
	}
}
EXPORT(topk_loss)
