package formats

import "fmt"

// Affine is a weight [Out, In] whose columns lie, group by group, on grids of equal steps: w = (code - zero) * scale. GPTQ, AWQ,
// compressed-tensors and the simple block types of GGUF store such weights in different bits; one that is read as Affine from one of
// them can be written to another without a change of a value.
//
// Peak memory: Out·In bytes of codes, 5·Out·Groups of scales and zero points.
type Affine struct {
	Out, In int
	Bits    int       // of a code: 2 to 8
	Group   int       // columns that share a scale; -1 for one scale per output row
	Scale   DType     // the type that the scales are stored in
	Codes   []int8    // [Out, In], signed, in [-2^(Bits-1), 2^(Bits-1)-1]
	Scales  []float32 // [Out, Groups], values that Scale holds exactly
	Zeros   []int8    // [Out, Groups], signed, in the range of codes; nil where all are 0 (symmetric)
	GIdx    []int32   // [In], the group of each column; nil where column i belongs to group i/Group
}

// Groups returns the number of scales of a row.
func (m *Affine) Groups() int {
	if m.Group == -1 {
		return 1
	}
	return m.In / m.Group
}

// Check reports what does not fit together, nil where nothing does not. It looks at sizes, and at the range of groups, codes and zero points.
func (m *Affine) Check() error {
	if m.Out <= 0 || m.In <= 0 || m.Bits < 2 || m.Bits > 8 {
		return fmt.Errorf("weight [%d, %d] of %d bits", m.Out, m.In, m.Bits)
	}
	if m.Group != -1 && (m.Group <= 0 || m.In%m.Group != 0) {
		return fmt.Errorf("%d columns do not divide into groups of %d", m.In, m.Group)
	}
	g := m.Groups()
	if len(m.Codes) != m.Out*m.In || len(m.Scales) != m.Out*g || m.Zeros != nil && len(m.Zeros) != m.Out*g ||
		m.GIdx != nil && len(m.GIdx) != m.In {
		return fmt.Errorf("%d codes, %d scales, %d zero points, %d columns in order for a weight [%d, %d] of %d groups",
			len(m.Codes), len(m.Scales), len(m.Zeros), len(m.GIdx), m.Out, m.In, g)
	}
	for i, v := range m.GIdx {
		if v < 0 || int(v) >= g {
			return fmt.Errorf("column %d belongs to group %d of %d", i, v, g)
		}
	}
	lo, hi := int8(-1<<(m.Bits-1)), int8(1<<(m.Bits-1)-1)
	for _, list := range [][]int8{m.Codes, m.Zeros} {
		for i, q := range list {
			if q < lo || q > hi {
				return fmt.Errorf("code or zero point %d at %d does not fit into %d bits", q, i, m.Bits)
			}
		}
	}
	return nil
}

// Dequantize fills dst with the values of rows [first, first+len(dst)/In): (code - zero) * scale. The product is exact in float32
// where the scale is a value of F16 or BF16, so that two weights are the same if and only if these values are.
func (m *Affine) Dequantize(dst []float32, first int) {
	g := m.Groups()
	for r := range len(dst) / m.In {
		row := first + r
		codes, scales := m.Codes[row*m.In:(row+1)*m.In], m.Scales[row*g:(row+1)*g]
		var zeros []int8
		if m.Zeros != nil {
			zeros = m.Zeros[row*g : (row+1)*g]
		}
		out := dst[r*m.In : (r+1)*m.In]
		if m.GIdx != nil {
			for i, q := range codes {
				k, z := m.GIdx[i], 0
				if zeros != nil {
					z = int(zeros[k])
				}
				out[i] = float32(int(q)-z) * scales[k]
			}
			continue
		}
		width := m.In / g
		for k, s := range scales {
			z := 0
			if zeros != nil {
				z = int(zeros[k])
			}
			part := out[k*width : (k+1)*width]
			for i, q := range codes[k*width : (k+1)*width] {
				part[i] = float32(int(q)-z) * s
			}
		}
	}
}

// Tensor is a tensor with its little-endian data.
type Tensor struct {
	TensorInfo
	Data []byte
}

// AffineFormat is a way to store weights on integer grids. A value of it is one setting of a format: bits, groups, versions.
type AffineFormat interface {
	// Check reports why a weight [out, in] cannot be stored, nil if it can.
	Check(out, in int64) error
	// Tensors lists what is stored for the weight of a linear module, sorted by name. The weight must have passed Check.
	Tensors(module string, out, in int64) []TensorInfo
	// Encode returns the tensors of Tensors with their data. It fails where the format cannot hold the weight without a change of a value.
	Encode(module string, m *Affine) ([]Tensor, error)
}

// Storage says how a weight that a view shows dequantized is stored.
type Storage struct {
	Format    string   // as the format itself names it: "pack-quantized", "gptq_v2", "awq", "Q4_K"
	Bits      float64  // stored for each weight, scales included
	Code      int      // bits of a code, where the weight lies on integer grids; else 0
	Group     int      // weights that share a scale; -1 for a whole row, 0 for a whole tensor
	Symmetric bool     // no zero points
	Ordered   bool     // columns belong to groups in an order of their own
	Grid      bool     // the weight lies on integer grids: [Quantized.Affine] returns it
	Tensors   []string // what it is stored in
}

// Quantized is a Source that shows the weights of a quantized checkpoint dequantized, under the names and in the shapes that they had
// before they were quantized, and knows how each is stored.
type Quantized interface {
	Source
	// Storage says how a shown weight is stored; false for a tensor that is stored as it is shown.
	Storage(name string) (Storage, bool)
	// Affine reads a weight whose storage is a grid.
	Affine(name string) (*Affine, error)
}

// Unrounder is a [Quantized] that rounds what it shows of weights on integer grids, as the software of its format does. Another format
// may show the same codes unrounded, so that who compares the two asks for that.
type Unrounder interface {
	// Unrounded returns the same view with the weights on integer grids as [Affine.Dequantize] has them, in F32.
	Unrounded() Quantized
}
