package packed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"modelpress/formats"
)

// golden is the config of a checkpoint that compressed-tensors 0.18 wrote, with the digests of what its own decompression
// returns.
type golden struct {
	Config json.RawMessage `json:"quantization_config"`
	Dense  map[string]struct {
		DType  string  `json:"dtype"`
		SHA256 string  `json:"sha256"`
		Shape  []int64 `json:"shape"`
	} `json:"dense"`
}

func checkGolden(t *testing.T, src memory, g golden) {
	t.Helper()
	view, err := Dense(src, g.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Tensors()) != len(g.Dense) {
		t.Errorf("view has %d tensors, want %d", len(view.Tensors()), len(g.Dense))
	}
	for name, want := range g.Dense {
		info, _ := view.Lookup(name)
		b := readAll(t, view, name)
		// The digests are of float32 tensors where the weight was quantized: the rounded values, widened.
		if want.DType == "F32" && info.DType == formats.BF16 {
			f := make([]float32, len(b)/2)
			if err := formats.Decode(f, b, info.DType); err != nil {
				t.Fatal(err)
			}
			b = make([]byte, 4*len(f))
			if err := formats.Encode(b, f, formats.F32); err != nil {
				t.Fatal(err)
			}
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want.SHA256 {
			t.Errorf("%s: values differ from those of compressed-tensors", name)
		}
	}
}

func TestDenseMatchesCompressedTensors(t *testing.T) {
	for _, name := range []string{"w4g64-sym", "w4g64-asym", "w8-channel-int"} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile("testdata/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := json.Unmarshal(b, &g); err != nil {
				t.Fatal(err)
			}
			checkGolden(t, loadFile(t, "testdata/"+name+".safetensors"), g)
		})
	}
}

// sample returns random codes, scales and zero points for a weight, and the source that stores them.
func sample(t *testing.T, out, in int, s Scheme, dt formats.DType) (codes []int8, scales []float32, zeros []int8, src memory) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(out*in+s.Bits)))
	code := func() int8 { return int8(r.IntN(1<<s.Bits) - 1<<(s.Bits-1)) }
	codes = make([]int8, out*in)
	for i := range codes {
		codes[i] = code()
	}
	g := int(s.Groups(int64(in)))
	scales = make([]float32, out*g)
	for i := range scales {
		scales[i] = formats.BF16ToF32(formats.BF16FromF32(0.01 + r.Float32()/8))
		if dt == formats.F16 {
			scales[i] = formats.F16ToF32(formats.F16FromF32(scales[i]))
		}
	}
	if !s.Symmetric {
		zeros = make([]int8, out*g)
		for i := range zeros {
			zeros[i] = code()
		}
	}
	list, err := PackQuantized{Scheme: s, Scales: dt}.Encode("m", &formats.Affine{Out: out, In: in, Bits: s.Bits, Group: s.GroupSize, Scale: dt, Codes: codes, Scales: scales, Zeros: zeros})
	if err != nil {
		t.Fatal(err)
	}
	src = memory{}
	for _, e := range list {
		if n, _ := e.Bytes(); n != int64(len(e.Data)) {
			t.Fatalf("%s: %d bytes for %v %s", e.Name, len(e.Data), e.Shape, e.DType)
		}
		src[e.Name] = e
	}
	return codes, scales, zeros, src
}

// configOf returns the config of one scheme.
func configOf(s Scheme, ignore []string) json.RawMessage {
	return Config([]GroupConfig{{Setting: PackQuantized{Scheme: s, Scales: formats.BF16}}}, ignore)
}

func TestEncodeThenDense(t *testing.T) {
	for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		for _, s := range []Scheme{{4, 32, true}, {4, 32, false}, {8, 64, true}, {8, 64, false}, {4, -1, true}, {8, -1, false}} {
			out, in := 19, 192
			if s.GroupSize == -1 {
				in = 77 // rows that end inside a word
			}
			codes, scales, zeros, src := sample(t, out, in, s, dt)
			view, err := Dense(src, configOf(s, nil))
			if err != nil {
				t.Fatal(err)
			}
			want := make([]float32, out*in)
			g := len(scales) / out
			for i := range want {
				k := i/in*g + i%in/(in/g)
				z := 0
				if zeros != nil {
					z = int(zeros[k])
				}
				want[i] = float32(float64(int(codes[i])-z) * float64(scales[k]))
			}
			wantBytes := make([]byte, out*in*dt.Size())
			if err := formats.Encode(wantBytes, want, dt); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readAll(t, view, "m.weight"), wantBytes) {
				t.Errorf("%v %s: dense weight differs", s, dt)
			}
			for _, span := range [][2]int{{0, 0}, {1, 2}, {in*dt.Size() - 1, in*dt.Size() + 3}, {5, len(wantBytes) - 1}} {
				p := make([]byte, span[1]-span[0])
				if err := view.ReadAt("m.weight", p, int64(span[0])); err != nil || !bytes.Equal(p, wantBytes[span[0]:span[1]]) {
					t.Errorf("%v %s: bytes %v differ (%v)", s, dt, span, err)
				}
			}
			if err := view.ReadAt("m.weight", make([]byte, 2), int64(len(wantBytes)-1)); err == nil {
				t.Error("read past the end succeeded")
			}
		}
	}
}

func TestDenseColumnOrder(t *testing.T) {
	s := Scheme{4, 32, true}
	codes, scales, _, src := sample(t, 3, 64, s, formats.F32)
	idx := make([]int32, 64)
	for i := range idx {
		idx[i] = int32(i % 2)
	}
	src.put("m.weight_g_idx", formats.I32, wordBytes(idx), 64)
	cfg := bytes.Replace(configOf(s, nil), []byte(`"actorder":null`), []byte(`"actorder":"group"`), 1)
	view, err := Dense(src, cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 3*64)
	if err := formats.ReadF32(view, "m.weight", got, 0); err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if want := float32(codes[i]) * scales[i/64*2+i%2]; v != want {
			t.Fatalf("value %d is %v, want %v", i, v, want)
		}
	}
}

func TestDenseRefusesNonFiniteScales(t *testing.T) {
	_, _, _, src := sample(t, 4, 64, Scheme{4, 32, true}, formats.F32)
	if err := formats.Encode(src["m.weight_scale"].Data[12:16], []float32{float32(math.Inf(1))}, formats.F32); err != nil {
		t.Fatal(err)
	}
	view, err := Dense(src, configOf(Scheme{4, 32, true}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := view.ReadAt("m.weight", make([]byte, 4), 64*4); err == nil {
		t.Error("an infinite scale was read")
	}
}
