package testmodel

import (
	"encoding/binary"
	"math"
	"sync"

	"modelpress/formats"
)

// lanes is the number of values drawn from one 64-bit random number: 16 bits each.
const lanes = 4

// generator draws the values of one tensor. Value i comes from 16 bits of splitmix64 at counter i/4, which choose one
// of 65,536 equally likely quantiles of the normal distribution; the table holds them ready encoded, so that a value
// costs one lookup and any range can be made without those before it.
type generator struct {
	key   uint64
	size  int
	table []byte // 65536 values of size bytes
}

// splitmix64 is the output function of Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
func splitmix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// nameKey mixes seed and name (FNV-1a), so that each tensor has its own stream.
func nameKey(seed uint64, name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return splitmix64(seed ^ splitmix64(h))
}

// quantiles returns the midpoints of 65,536 equally likely parts of the standard normal distribution.
var quantiles = sync.OnceValue(func() []float64 {
	q := make([]float64, 1<<16)
	for u := range q {
		q[u] = math.Sqrt2 * math.Erfinv((2*float64(u)+1)/(1<<16)-1)
	}
	return q
})

func encodeQuantiles(dt formats.DType, mean, std float64) []byte {
	values := make([]float32, 1<<16)
	for u, q := range quantiles() {
		values[u] = float32(mean + float64(q*std))
	}
	table := make([]byte, len(values)*dt.Size())
	if err := formats.Encode(table, values, dt); err != nil {
		panic(err) // the dtype was checked
	}
	return table
}

// fill writes values first, first+1, … to p, whose length is a multiple of the value size.
func (g *generator) fill(p []byte, first int64) {
	n := int64(len(p) / g.size)
	i := int64(0)
	for ; i < n && (first+i)%lanes != 0; i++ {
		g.one(p, i, first+i)
	}
	if g.size == 2 {
		i = g.quads16(p, i, n, first)
	} else {
		i = g.quads32(p, i, n, first)
	}
	for ; i < n; i++ {
		g.one(p, i, first+i)
	}
}

func (g *generator) draw(index int64) uint64 { return splitmix64(g.key + uint64(index/lanes)) }

func (g *generator) one(p []byte, at, index int64) {
	u := int(uint16(g.draw(index) >> (16 * uint(index%lanes))))
	copy(p[int(at)*g.size:int(at+1)*g.size], g.table[u*g.size:])
}

func (g *generator) quads16(p []byte, i, n, first int64) int64 {
	at := func(u uint64) uint64 {
		return uint64(binary.LittleEndian.Uint16(g.table[2*(u&0xffff):]))
	}
	for ; i+lanes <= n; i += lanes {
		r := g.draw(first + i)
		v := at(r) | at(r>>16)<<16 | at(r>>32)<<32 | at(r>>48)<<48
		binary.LittleEndian.PutUint64(p[2*i:], v)
	}
	return i
}

func (g *generator) quads32(p []byte, i, n, first int64) int64 {
	at := func(u uint64) uint64 {
		return uint64(binary.LittleEndian.Uint32(g.table[4*(u&0xffff):]))
	}
	for ; i+lanes <= n; i += lanes {
		r := g.draw(first + i)
		binary.LittleEndian.PutUint64(p[4*i:], at(r)|at(r>>16)<<32)
		binary.LittleEndian.PutUint64(p[4*i+8:], at(r>>32)|at(r>>48)<<32)
	}
	return i
}
