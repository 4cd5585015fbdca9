// Losses of rows of logits, a block for each row. Logits are read from memory once and, where they are looked at again, mostly from the
// cache; losses are float64.
#include "softmax.cuh"

// row_scores: nll[i] = -log softmax(x[i,:])[targets[i]], and top[i] is where the first of the largest values of the row stands, which is
// the target without targets. 4 bytes are moved for each value.
KERNEL(row_scores)(double *nll, int *top, const float *x, const int *targets, int v) {
	SHARED SoftShared shared;
	const float *row = x + (long long)blockIdx.x * v;
	Seen s = soften(row, v, wide4(v, x), shared, 1, false);
	if (threadIdx.x == 0) {
		nll[blockIdx.x] = -Soft{s.top, s.sum}.log_at(row[targets ? targets[blockIdx.x] : s.at], 1);
		top[blockIdx.x] = s.at;
	}
}
EXPORT(row_scores)

// Pair are the softmaxes q and p of two rows.
struct Pair {
	float q_top, p_top, q_inv, p_inv, q_scale, p_scale;
	double log; // of the sum of q over that of p

	// term is p*log(p/q) + q - p of one outcome with scores s and t. The last two sum to nothing, but no term is negative then, and rows that
	// are close keep the digits of their divergence.
	DEVICE double term(float s, float t, float &q, float &p) const {
		q = past(s, q_top, q_scale) * q_inv;
		p = past(t, p_top, p_scale) * p_inv;
		if (p == 0) return q;
		double d = ((double)t - p_top) * p_scale - ((double)s - q_top) * q_scale + log;
		if (fabs(d) < 0.25) return p * rest_of(d);
		return q + (p * d - p);
	}
};

DEVICE Pair pair(const Seen &q, const Seen &p, float q_scale, float p_scale) {
	return Pair{q.top, p.top, (float)(1 / q.sum), (float)(1 / p.sum), q_scale, p_scale, log(q.sum) - log(p.sum)};
}

// row_divergence: kl[i] = KL(softmax(p[i,:]) ‖ softmax(q[i,:])), in nats. 8 bytes are moved for each value.
KERNEL(row_divergence)(double *kl, const float *p, const float *q, int v) {
	SHARED SoftShared shared;
	const float *a = p + (long long)blockIdx.x * v, *b = q + (long long)blockIdx.x * v;
	bool wide = wide4(v, p) && aligned(q);
	Seen sp = soften(a, v, wide, shared, 1, false), sq = soften(b, v, wide, shared, 1, false);
	Pair both = pair(sq, sp, 1, 1);
	double sum = 0;
	for (int c = 4 * threadIdx.x; c < v; c += 4 * ROW_THREADS) {
		float4 t = scores4(a, c, v, wide), s = scores4(b, c, v, wide);
		float x, y;
		sum += both.term(s.x, t.x, x, y) + both.term(s.y, t.y, x, y) + both.term(s.z, t.z, x, y) + both.term(s.w, t.w, x, y);
	}
	sum = Team<ROW_THREADS>{shared.part}.sum(sum);
	if (threadIdx.x == 0) kl[blockIdx.x] = sum;
}
EXPORT(row_divergence)

// logit_loss replaces student logits s by the gradient coef*(q-p) + weight*(softmax(s) - one_hot(target)), with q = softmax(scale*s) and
// p = softmax(scale*t), and gives kl[i] = KL(p ‖ q) and ce[i] = -log softmax(s)[target]. Without t, or where the target is negative, that part
// is nothing. 8 bytes are moved for each value, 12 with t.
KERNEL(logit_loss)(double *kl, double *ce, float *s, const float *t, const int *targets, int v, float scale, float coef, float weight) {
	SHARED SoftShared shared;
	float *row = s + (long long)blockIdx.x * v;
	const float *other = t ? t + (long long)blockIdx.x * v : 0;
	bool wide = wide4(v, s) && aligned(t);
	int target = targets ? targets[blockIdx.x] : -1;
	bool apart = target >= 0 && scale != 1; // the sum at scale 1 is another one
	Seen q = soften(row, v, wide, shared, scale, apart), p = {0, 1, 1, 0};
	if (!apart) q.plain = q.sum;
	if (other) p = soften(other, v, wide, shared, scale, false);
	Pair both = pair(q, p, scale, scale);
	float plain = target < 0 ? 0 : (float)(weight / q.plain);
	double loss = target < 0 ? 0 : -Soft{q.top, q.plain}.log_at(row[target], 1);
	__syncthreads(); // before the target is overwritten
	double sum = 0;
	for (int c = 4 * threadIdx.x; c < v; c += 4 * ROW_THREADS) {
		float4 x = scores4(row, c, v, wide), g = {0, 0, 0, 0};
		if (plain != 0) g = each4(x, [=](float x) { return plain * past(x, q.top, 1); });
		if (other) {
			float4 y = scores4(other, c, v, wide), b, a;
			sum += both.term(x.x, y.x, b.x, a.x) + both.term(x.y, y.y, b.y, a.y) + both.term(x.z, y.z, b.z, a.z) + both.term(x.w, y.w, b.w, a.w);
			g = each4(g, each4(b, a, [](float b, float a) { return b - a; }), [=](float g, float d) { return g + coef * d; });
		}
		if (target >= c && target < c + 4) {
			g.x -= target == c ? weight : 0;
			g.y -= target == c + 1 ? weight : 0;
			g.z -= target == c + 2 ? weight : 0;
			g.w -= target == c + 3 ? weight : 0;
		}
		store4(row, c, v, wide, g);
	}
	sum = Team<ROW_THREADS>{shared.part}.sum(sum);
	if (threadIdx.x == 0) {
		kl[blockIdx.x] = sum;
		ce[blockIdx.x] = loss;
	}
}
EXPORT(logit_loss)
