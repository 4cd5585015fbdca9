package distill

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// each calls f for runs of values that fill buf, with the room of each and the index of its first value.
func (v *Vector) each(buf []byte, f func(p []byte, from int) error) error {
	width, n := v.size()
	for from := 0; from < n; from += len(buf) / width {
		if err := f(buf[:min(len(buf)/width, n-from)*width], from); err != nil {
			return err
		}
	}
	return nil
}

// encode fills p with the little-endian values from index from on.
func (v *Vector) encode(p []byte, from int) {
	switch {
	case v.F64 != nil:
		for i := range len(p) / 8 {
			binary.LittleEndian.PutUint64(p[8*i:], math.Float64bits(v.F64[from+i]))
		}
	case v.Half != nil:
		for i := range len(p) / 2 {
			binary.LittleEndian.PutUint16(p[2*i:], v.Half[from+i])
		}
	default:
		must(formats.Encode(p, v.F32[from:][:len(p)/4], formats.F32))
	}
}

// decode replaces the values from index from on by those in p.
func (v *Vector) decode(p []byte, from int) {
	switch {
	case v.F64 != nil:
		for i := range len(p) / 8 {
			v.F64[from+i] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
		}
	case v.Half != nil:
		for i := range len(p) / 2 {
			v.Half[from+i] = binary.LittleEndian.Uint16(p[2*i:])
		}
	default:
		must(formats.Decode(v.F32[from:][:len(p)/4], p, formats.F32))
	}
}

// must is for conversions whose sizes are right by construction.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("distill: %v", err))
	}
}

// vector returns the master copy of a parameter.
func (q *Param) vector(name string) Vector {
	q.pull(true)
	return Vector{Name: name, F32: q.Values, Half: q.Half}
}

// Vectors returns the parameters that are trained and their moments as parts of a state, which share their memory.
func (o *Optimizer) Vectors() []Vector {
	var out []Vector
	for i, q := range o.params {
		out = append(out, q.vector("param/"+q.Name), Vector{Name: "m/" + q.Name, F32: o.m[i]}, Vector{Name: "v/" + q.Name, F32: o.v[i]})
	}
	return out
}

// Resume has the optimizer go on after the given number of steps, once its vectors have been restored.
func (o *Optimizer) Resume(steps int64) {
	o.step = steps
	for _, q := range o.params {
		q.push()
	}
}
