package nn

import (
	"encoding/binary"
	"math"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// KindOf returns the kind of buffer that holds values of a stored type without loss; F64 becomes F32.
func KindOf(dt formats.DType) device.Kind {
	switch dt {
	case formats.BF16:
		return device.BF16
	case formats.F16:
		return device.F16
	}
	return device.F32
}

// chunkBytes is how much of a tensor is read at once.
const chunkBytes = 1 << 20

// uploader copies tensors from a source to a device.
type uploader struct {
	dev device.Device
	src formats.Source
	raw []byte
	f32 []float32

	relieve func(cheap bool) bool // as that of the model; nil for none
}

// uploader returns one for the model's tensors. relieve makes room on the device where there is too little; it may be nil.
func (m *Model) uploader(relieve func(cheap bool) bool) *uploader {
	return &uploader{dev: m.Dev, src: m.Src, relieve: relieve}
}

// alloc returns n elements, if need be in memory that others give back.
func (u *uploader) alloc(kind device.Kind, n int) (device.Buf, error) {
	for {
		b, err := u.dev.Alloc(kind, n)
		if err == nil || u.relieve == nil || !u.relieve(false) {
			return b, err
		}
	}
}

// floats uploads elements [from, from+n) of a tensor as F32: gains and biases.
func (u *uploader) floats(name string, from, n int) (device.Buf, error) {
	buf, err := u.alloc(device.F32, n)
	if err != nil {
		return nil, err
	}
	v := make([]float32, n)
	if err := formats.ReadF32(u.src, name, v, int64(from)); err != nil {
		buf.Free()
		return nil, err
	}
	if err := formats.CheckFinite("", name, v, int64(from)); err != nil {
		buf.Free()
		return nil, err
	}
	u.dev.Upload(buf, 0, v)
	return buf, nil
}

// Resident is a source that holds tensors in memory as f32.
type Resident interface {
	// Floats returns the values of a tensor, nil where it is not held so. What they are when a block is loaded they must be until it is
	// freed, and they are taken as they are: who changes them sees to it that they are finite.
	Floats(name string) []float32
}

// Held is a source that holds tensors in the memory of a device, where they are trained.
type Held interface {
	// Buffer returns the values of a tensor, in the type that the source has them in, nil where dev does not hold them. They are as those of
	// [Resident].
	Buffer(name string, dev device.Device) device.Buf
}

// share returns a weight that the source holds and the device can read where it lies, nil where that is not so.
func (u *uploader) share(l arch.Linear) device.Buf {
	if src, ok := u.src.(Held); ok && !l.Transposed {
		if b := src.Buffer(l.Weight, u.dev); b != nil {
			return u.dev.Slice(b, l.Row*l.In, l.Out*l.In)
		}
	}
	src, ok := u.src.(Resident)
	dev, reads := u.dev.(device.Sharer)
	if !ok || !reads || l.Transposed {
		return nil
	}
	v := src.Floats(l.Weight)
	if v == nil {
		return nil
	}
	return dev.Share(v[l.Row*l.In:][:l.Out*l.In])
}

// matrix uploads a weight as logical [Out, In] in the type it is stored in.
func (u *uploader) matrix(l arch.Linear) (device.Buf, error) {
	t, ok := u.src.Lookup(l.Weight)
	if !ok {
		return nil, formats.Errorf("", l.Weight, "no such tensor")
	}
	if !t.DType.IsFloat() {
		return nil, formats.Errorf("", l.Weight, "dtype %s where a float type is needed", t.DType)
	}
	buf, err := u.alloc(KindOf(t.DType), l.Out*l.In)
	if err != nil {
		return nil, err
	}
	if l.Transposed {
		err = u.transposed(buf, l, t.DType)
	} else {
		err = u.pieces(buf, l.Weight, t.DType, int64(l.Row)*int64(l.In), l.Out*l.In)
	}
	if err != nil {
		buf.Free()
		return nil, err
	}
	return buf, nil
}

// pieceBytes is how much of a tensor a thread loads.
const pieceBytes = 16 << 20

// pieces uploads n consecutive elements of a tensor from element from on, on several threads.
func (u *uploader) pieces(buf device.Buf, name string, dt formats.DType, from int64, n int) error {
	step := pieceBytes / dt.Size()
	errs := make([]error, (n+step-1)/step)
	if len(errs) <= 1 {
		return u.run(buf, 0, name, dt, from, n)
	}
	u.dev.For(len(errs), func(i int) {
		part := &uploader{dev: u.dev, src: u.src}
		errs[i] = part.run(buf, i*step, name, dt, from+int64(i*step), min(step, n-i*step))
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// run uploads n consecutive elements of a tensor from element from on to buf[off:].
func (u *uploader) run(buf device.Buf, off int, name string, dt formats.DType, from int64, n int) error {
	size := dt.Size()
	for n > 0 {
		c := min(n, chunkBytes/size)
		p := u.bytes(c * size)
		if err := u.src.ReadAt(name, p, from*int64(size)); err != nil {
			return err
		}
		if err := u.put(buf, off, name, dt, from, p); err != nil {
			return err
		}
		off, from, n = off+c, from+int64(c), n-c
	}
	return nil
}

// transposed uploads a part of a tensor stored as [In, StoredOut], a group of logical rows at a time.
func (u *uploader) transposed(buf device.Buf, l arch.Linear, dt formats.DType) error {
	size := dt.Size()
	group := max(1, chunkBytes/(l.In*size))
	column := make([]byte, group*size)
	for o := 0; o < l.Out; o += group {
		g := min(group, l.Out-o)
		p := u.bytes(g * l.In * size)
		for i := range l.In {
			c := column[:g*size]
			at := int64(i)*int64(l.StoredOut) + int64(l.Row+o)
			if err := u.src.ReadAt(l.Weight, c, at*int64(size)); err != nil {
				return err
			}
			for j := range g {
				copy(p[(j*l.In+i)*size:(j*l.In+i+1)*size], c[j*size:])
			}
		}
		if err := u.put(buf, o*l.In, l.Weight, dt, int64(o)*int64(l.In), p); err != nil {
			return err
		}
	}
	return nil
}

func (u *uploader) bytes(n int) []byte {
	if cap(u.raw) < n {
		u.raw = make([]byte, n)
	}
	return u.raw[:n]
}

// put uploads raw values after checking that they are finite; base is the index of the first one for the error.
func (u *uploader) put(buf device.Buf, off int, name string, dt formats.DType, base int64, p []byte) error {
	n := len(p) / dt.Size()
	if dt == formats.BF16 || dt == formats.F16 {
		if i := nonFinite16(p, dt); i >= 0 {
			return formats.Errorf("", name, "value %d is not finite", base+int64(i))
		}
		u.dev.UploadRaw(buf, off, p)
		return nil
	}
	if cap(u.f32) < n {
		u.f32 = make([]float32, n)
	}
	v := u.f32[:n]
	if err := formats.Decode(v, p, dt); err != nil {
		return formats.Errorf("", name, "%w", err)
	}
	if err := formats.CheckFinite("", name, v, base); err != nil {
		return err
	}
	u.dev.Upload(buf, off, v)
	return nil
}

// nonFinite16 returns the index of the first infinity or NaN among 16-bit floats, -1 where there is none.
func nonFinite16(p []byte, dt formats.DType) int {
	exp := uint16(0x7f80)
	if dt == formats.F16 {
		exp = 0x7c00
	}
	i := 0
	// Four at once: adding the lowest exponent bit carries into the sign bit exactly where all exponent bits are set.
	const ones = 0x0001000100010001
	mask, low := ones*uint64(exp), ones*uint64(exp&-exp)
	for ; i+8 <= len(p); i += 8 {
		if (binary.LittleEndian.Uint64(p[i:])&mask+low)&(ones<<15) != 0 {
			break
		}
	}
	for ; i+2 <= len(p); i += 2 {
		if binary.LittleEndian.Uint16(p[i:])&exp == exp {
			return i / 2
		}
	}
	return -1
}

// product returns a*b, or an error where the result could not be the length of a slice of f32.
func product(a, b int) (int, error) {
	if a < 0 || b < 0 || b > 0 && a > math.MaxInt/8/b {
		return 0, formats.Errorf("", "", "%d x %d values are more than memory can address", a, b)
	}
	return a * b, nil
}
