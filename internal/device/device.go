// Package device is the boundary between the transformer and the machine: typed buffers, a few tens of operations on
// them, and the one pool of threads. The CPU implementation is the reference and is always there.
//
// Shapes are row-major. Letters: T time, S keys seen, D model width, H query heads, G KV heads, K head dim, F FFN width.
package device

// Kind is the element type of a buffer.
type Kind uint8

// The element types of buffers.
const (
	F32 Kind = iota
	BF16
	F16
)

// Size returns the bytes of one element.
func (k Kind) Size() int {
	if k == F32 {
		return 4
	}
	return 2
}

// Buf is a vector of values in the memory of a device.
type Buf interface {
	Len() int
	Kind() Kind
	// Free gives the memory back; the buffer must not be used after it.
	Free()
}

// Mask says which keys a query sees besides causality: the first Sink positions and the last Recent ones, its own
// included (key j is seen by query i iff j <= i and (j < Sink or i-j < Recent)). Recent 0 means every key: full
// attention. A sliding window of W tokens is Mask{0, W}.
type Mask struct {
	Sink, Recent int
}

// Full reports whether the mask hides nothing beyond causality.
func (m Mask) Full() bool { return m.Recent <= 0 }

// AttnShape gives the sizes of one attention call over one sequence. Query head h reads KV head h/(H/G). Rows of q are
// [T, H*K], of k and v [T, G*K].
type AttnShape struct {
	T, H, G, K int
	Scale      float32 // usually 1/sqrt(K)
	// Batch is a number of sequences of T positions, whose rows follow one another; 0 means 1. More than one is for Attention and
	// AttentionBack alone, whose lse is [Batch, H, T] then. Each sequence gives the bits that it gives on its own.
	Batch int
}

// Sequences is the number of sequences.
func (s AttnShape) Sequences() int { return max(1, s.Batch) }

// Sharer is a device that reads the memory of the host as its own: Share returns values as an F32 buffer without copying them.
// Writing to one changes the other, and Free leaves the values alone.
type Sharer interface {
	Share(x []float32) Buf
}

// Remote is a device with a memory of its own, which the host cannot address: Host gives nil. Room is how many bytes of that memory
// are still free within its budget; Alloc of less may still fail, where what is free lies in pieces. Room may be called at any time.
type Remote interface {
	Device
	Room() int64
}

// Rotator is a device that rotates by tables in its own memory, so that they need not come from the host each time: Rotate is RoPE with
// cos and sin F32 buffers of at least [T, K/2], and gives its bits.
type Rotator interface {
	Rotate(x Buf, t, heads, k int, cos, sin Buf)
}

// Device runs the operations of a transformer. Methods that fail do so only for want of memory or of the device itself;
// wrong sizes are bugs and panic. An operation that returns no error and cannot be carried out panics with a [*Fault].
// Operations on one Device may be queued, Download waits for them. Results do not depend on the number of threads.
//
// Alloc, Upload and UploadRaw, and Free of a buffer that nothing uses, may run within For and at the same time as any other operation, on
// buffers that this does not use: so weights arrive while others are computed with. Several uploads to parts of one buffer that do not
// overlap may run at once.
type Device interface {
	// Class names what fixes the bits of results, such as "cpu-f32".
	Class() string
	// Threads is the number of threads that For uses.
	Threads() int
	// For runs body(0..n-1) on the pool and waits. Bodies must not depend on order.
	For(n int, body func(i int))

	// Alloc returns n zeroed elements.
	Alloc(kind Kind, n int) (Buf, error)
	// Upload copies src to dst[off:], rounding to nearest even where dst is a 16-bit kind.
	Upload(dst Buf, off int, src []float32)
	// UploadRaw copies little-endian elements of dst's own kind to dst[off:].
	UploadRaw(dst Buf, off int, src []byte)
	// Download copies src[off:off+len(dst)] to dst as f32.
	Download(dst []float32, src Buf, off int)
	// Host returns the memory of an F32 buffer where the host can address it, else nil.
	Host(b Buf) []float32
	// Slice returns n elements of b from any place off on as a buffer in the same memory, which must not outlive b. Its Free does
	// nothing.
	Slice(b Buf, off, n int) Buf
	// Copy: dst[off:off+n] = src[from:from+n], both of one kind. The two ranges must not overlap.
	Copy(dst Buf, off int, src Buf, from, n int)
	// Zero sets n elements of b from off on to zero.
	Zero(b Buf, off, n int)

	// Gather: y[i,:] = table[ids[i],:], rows of width d.
	Gather(y, table Buf, ids []int32, d int)
	// MatMulNT: y[M,N] = x[M,Kd] · w[N,Kd]ᵀ + beta*y. x and y are F32, w any kind. f32 accumulation over Kd in a fixed order.
	MatMulNT(y, x, w Buf, m, n, kd int, beta float32)
	// MatMulNN: y[M,Kd] = x[M,N] · w[N,Kd] + beta*y, the way back through MatMulNT. y and x are F32, w any kind, and the
	// product is in f32 on devices of every class.
	MatMulNN(y, x, w Buf, m, n, kd int, beta float32)
	// AddBias: y[i,:] += bias, for rows of width n.
	AddBias(y, bias Buf, rows, n int)
	// Add: y += x.
	Add(y, x Buf, n int)
	// MatMulTN: w[N,Kd] = y[M,N]ᵀ · x[M,Kd] + beta*w, the gradient by the weight of MatMulNT where y is the gradient by its
	// output. All are F32, and the product is in f32 on devices of every class. With beta 0 the old w is not read.
	MatMulTN(w, y, x Buf, m, n, kd int, beta float32)
	// RMSNorm: y[i,:] = x[i,:] / sqrt(Σx[i,:]²/over+eps) * w, rows of width d. over > 0 is the number of channels that means
	// are taken over: d, or fewer where masks make the other ones zero. y may be x.
	RMSNorm(y, x, w Buf, rows, d int, over, eps float32)
	// LayerNorm: y[i,:] = (x[i,:]-mean)/sqrt(var+eps)*w + b, with mean = Σx[i,:]/over and var = Σx[i,:]²/over - mean², computed
	// without their cancellation: (Σ(x[i,:]-mean)² - (d-over)*mean²)/over, at least 0. Masked channels need zeros in w and b.
	// y may be x.
	LayerNorm(y, x, w, b Buf, rows, d int, over, eps float32)
	// RMSNormBack: the gradient dx by the input x of RMSNorm from the gradient dy by its output. dx may be dy.
	RMSNormBack(dx, dy, x, w Buf, rows, d int, over, eps float32)
	// LayerNormBack: the gradient dx by the input x of LayerNorm from the gradient dy by its output. dx may be dy.
	LayerNormBack(dx, dy, x, w Buf, rows, d int, over, eps float32)
	// RMSNormGrad: dw[j] += Σ_i dy[i,j]*x[i,j]*r_i, the gradient by the gain of RMSNorm, with r_i = 1/sqrt(Σx[i,:]²/over+eps).
	RMSNormGrad(dw, dy, x Buf, rows, d int, over, eps float32)
	// LayerNormGrad: dw[j] += Σ_i dy[i,j]*n[i,j] and db[j] += Σ_i dy[i,j], the gradients by the gain and the bias of LayerNorm,
	// with n = (x-mean)/sqrt(var+eps).
	LayerNormGrad(dw, db, dy, x Buf, rows, d int, over, eps float32)
	// ColumnDots: dst[j] += Σ_i a[i,j]*b[i,j] over rows of width n, in float64 and a fixed order; b nil counts as ones. It is
	// the gradient by the z of ScaleColumns, and by the bias of AddBias.
	ColumnDots(dst []float64, a, b Buf, rows, n int)
	// ScaleColumns: y[i,j] = x[i,j]*z[j], rows of width n. y may be x.
	ScaleColumns(y, x Buf, z []float32, rows, n int)
	// RoPE rotates x [T, heads*K] in place in the half-split layout: pair (j, j+K/2) of each head by the angle whose
	// cosine and sine stand at [t, j] of cos and sin, [T, K/2] each (host tables, any attention factor folded in).
	RoPE(x Buf, t, heads, k int, cos, sin []float32)
	// Attention: out[t,h,:] = softmax(scale*q[t,h]·k[:,g] under masks[g])·v[:,g], causal, in O(T) memory per thread.
	// lse may be nil; else [H, T], the natural log of the sum of exp of the row's scores. masks has length G, or is nil
	// for full attention.
	Attention(out, lse, q, k, v Buf, s AttnShape, masks []Mask)
	// AttnColumnSums: dst[h,j] = Σ_i softmax(...)[h,i,j] for each query head, from q, k and the lse that Attention gave
	// under the same masks. dst is F32 [H, T].
	AttnColumnSums(dst, q, k, lse Buf, s AttnShape, masks []Mask)
	// AttentionBack: the gradients dq [T, H*K], dk and dv [T, G*K] of a loss by the inputs of Attention, from the
	// gradient dout [T, H*K] by its output, and the out and lse that Attention gave under the same masks. Overwrites dq,
	// dk and dv; the parts of the query heads of a group are added in ascending order. Memory is O(T).
	AttentionBack(dq, dk, dv, dout, q, k, v, out, lse Buf, s AttnShape, masks []Mask)
	// AttnStatistics fills in st in one pass over the attention of every head, from the lse that Attention gave under the
	// same masks. v, out and dout [T, H*K], the output and the gradient of a loss by it, may be nil unless
	// st.NeedsGradient. Memory is O(T) beyond what st asks for.
	AttnStatistics(st *AttnStats, q, k, v, out, dout, lse Buf, s AttnShape, masks []Mask)
	// MixHeads: y[t,h,:] = alpha[g]*a[t,h,:] + (1-alpha[g])*b[t,h,:] for the KV head g of query head h, over [T, H*K];
	// b nil counts as zeros. y may be a or b.
	MixHeads(y, a, b Buf, alpha []float32, s AttnShape)
	// MixSlopes: dst[g] = Σ_t Σ_h dy[t,h,:]·(a[t,h,:]-b[t,h,:]) over the query heads of KV head g, the gradient by alpha of
	// MixHeads, in float64 and in the order of rows within a head, heads ascending.
	MixSlopes(dst []float64, dy, a, b Buf, s AttnShape)
	// SiLUMul: y = silu(gate)*up.
	SiLUMul(y, gate, up Buf, n int)
	// SiLUMulBack: the gradients of SiLUMul by gate and up from the gradient dy by its output. dgate may be gate, dup up.
	SiLUMulBack(dgate, dup, dy, gate, up Buf, n int)
	// GELU: y = gelu(x), by the tanh form where tanh is set, else by erf.
	GELU(y, x Buf, n int, tanh bool)
	// GELUBack: the gradient dx by the input x of GELU from the gradient dy by its output. dx may be dy or x.
	GELUBack(dx, dy, x Buf, n int, tanh bool)
}
