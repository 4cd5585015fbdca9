package ggml

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// readFloats reads a file of little-endian float32.
func readFloats(t testing.TB, name string) []float32 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, len(b)/4)
	if err := Dequantize(F32, x, b); err != nil {
		t.Fatal(err)
	}
	return x
}

func bytesOf(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func hash(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// golden has the hash of what ggml reads back from each testdata/TYPE.bin.
var golden = map[Type]uint64{
	Q4_0:  0x57f72c87cd5b5377,
	Q4_1:  0x1edbc5fc9562f314,
	Q5_0:  0xadc7fd9569f988df,
	Q5_1:  0x46e2098127c02106,
	Q8_0:  0x1b7bd6f4ed3b294a,
	Q2_K:  0x84075fef2be81618,
	Q3_K:  0x0cd12545c67b188e,
	Q4_K:  0x9f861ad745f751c7,
	Q5_K:  0x84e2890e1acb92de,
	Q6_K:  0x9c2e96859100df95,
	MXFP4: 0xfe82e39e2e7d568c,
	NVFP4: 0xa77cce125f78da8a,
}

// What is written has ggml's bytes, with importance and without, and what is read has ggml's values, bit for bit.
func TestGolden(t *testing.T) {
	x, importance := readFloats(t, "values.f32"), readFloats(t, "importance.f32")
	for typ, want := range golden {
		file, err := os.ReadFile(filepath.Join("testdata", typ.String()+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, len(x))
		if err := Dequantize(typ, values, file); err != nil {
			t.Fatal(err)
		}
		if got := hash(bytesOf(values)); got != want {
			t.Errorf("%s: values of hash %#x, want %#x", typ, got, want)
		}
		if !typ.Quantizes() {
			continue
		}
		compareGolden(t, typ, file, x, nil)
		if typ == Q8_0 {
			continue
		}
		file, err = os.ReadFile(filepath.Join("testdata", typ.String()+".importance.bin"))
		if err != nil {
			t.Fatal(err)
		}
		compareGolden(t, typ, file, x, importance)
	}
}

func compareGolden(t *testing.T, typ Type, want []byte, x, importance []float32) {
	t.Helper()
	got := make([]byte, len(want))
	if err := Quantize(typ, got, x, 512, importance); err != nil {
		t.Fatal(typ, err)
	}
	for i := 0; i < len(got); i += typ.Size() {
		if string(got[i:i+typ.Size()]) != string(want[i:i+typ.Size()]) {
			t.Fatalf("%s, importance %v: block %d is %x, ggml writes %x", typ, importance != nil, i/typ.Size(), got[i:i+typ.Size()], want[i:i+typ.Size()])
		}
	}
}

// The hashes of ggml's reference quantizers over 256 values of a linear congruential generator.
func TestGoldenHashes(t *testing.T) {
	x := make([]float32, 256)
	for i, state := 0, uint32(12345); i < len(x); i++ {
		state = state*1664525 + 1013904223
		x[i] = float32(int32(state>>8)-1<<23) / (1 << 23)
	}
	for typ, want := range map[Type]uint64{
		Q8_0: 0xac1f77c449c91c78, Q4_0: 0x859387b39b1450e6, Q5_K: 0x96b2c7c99ff8e6a0, Q4_K: 0x42ab49912c37b456, Q6_K: 0x84ac6acb0ba1c75c,
		Q4_1: 0x1dcc7684590b9de4, Q5_0: 0xe68eff330f7533ba, Q5_1: 0xfde6391d92b82da9,
	} {
		n, err := typ.RowBytes(256)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if err := Quantize(typ, got, x, 256, nil); err != nil {
			t.Fatal(err)
		}
		if h := hash(got); h != want {
			t.Errorf("%s: hash %#x, want %#x", typ, h, want)
		}
	}
}
