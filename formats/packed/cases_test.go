package packed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/formats"
)

// example is a small checkpoint made from a seed. Where its weights come from floats, original holds them.
type example struct {
	name     string
	config   json.RawMessage
	tensors  memory
	original memory
}

// gaussian returns weights [out, in] whose rows differ in size by up to 64.
func gaussian(r *rand.Rand, out, in int) []float32 {
	w := make([]float32, out*in)
	for i := range w {
		w[i] = float32(r.NormFloat64()*math.Exp2(float64(i/in%7))) / 512
	}
	return w
}

// randomAffine returns a weight with codes and zero points of the whole range, and scales that dt holds.
func randomAffine(r *rand.Rand, out, in int, s Scheme, dt formats.DType, ordered bool) *formats.Affine {
	m := &formats.Affine{Out: out, In: in, Bits: s.Bits, Group: s.GroupSize, Scale: dt}
	code := func(n int) []int8 {
		q := make([]int8, n)
		for i := range q {
			q[i] = int8(r.IntN(1<<s.Bits) - 1<<(s.Bits-1))
		}
		return q
	}
	g := m.Groups()
	m.Codes, m.Scales = code(out*in), make([]float32, out*g)
	for i := range m.Scales {
		m.Scales[i] = round(float32(math.Exp2(-9+4*r.Float64())), dt)
	}
	if !s.Symmetric {
		m.Zeros = code(out * g)
	}
	if ordered {
		m.GIdx = make([]int32, in)
		for i, c := range r.Perm(in) {
			m.GIdx[c] = int32(i / s.GroupSize)
		}
	}
	return m
}

// codes8 returns random codes of E4M3 without NaN.
func codes8(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(r.Uint32()); b[i]&0x7f == 0x7f {
			b[i]--
		}
	}
	return b
}

func bytesOf(r *rand.Rand, n, lo, hi int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(lo + r.IntN(hi-lo))
	}
	return b
}

// scalesOf returns n random scales in a type.
func scalesOf(t testing.TB, r *rand.Rand, n int, dt formats.DType) []byte {
	v, b := make([]float32, n), make([]byte, n*dt.Size())
	for i := range v {
		v[i] = float32(math.Exp2(-12 + 8*r.Float64()))
	}
	if err := formats.Encode(b, v, dt); err != nil {
		t.Fatal(err)
	}
	return b
}

func f32Bytes(v ...float32) []byte {
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// examples returns one checkpoint or more for every format and strategy, with sizes that fit nothing else than they must.
func examples(t testing.TB) []example {
	var list []example
	add := func(name string, seed uint64, config json.RawMessage, fill func(r *rand.Rand, e *example)) {
		e := example{name: name, config: config, tensors: memory{}, original: memory{}}
		fill(rand.New(rand.NewPCG(seed, 7)), &e)
		list = append(list, e)
	}
	put := func(e *example, tensors []formats.Tensor, err error) {
		if err != nil {
			t.Fatal(e.name, err)
		}
		for _, x := range tensors {
			e.tensors[x.Name] = x
		}
	}
	ints := func(name string, seed uint64, s formats.AffineFormat, scheme Scheme, dt formats.DType, ordered bool, sizes ...[2]int) {
		add(name, seed, Config([]GroupConfig{{Setting: s.(Setting)}}, nil), func(r *rand.Rand, e *example) {
			for i, n := range sizes {
				tensors, err := s.Encode(fmt.Sprintf("m.%d", i), randomAffine(r, n[0], n[1], scheme, dt, ordered))
				put(e, tensors, err)
			}
		})
	}
	for i, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		for j, s := range []Scheme{{4, 32, true}, {4, 32, false}, {8, 64, true}, {8, 64, false}} {
			ints(fmt.Sprintf("pack%d-g%d-sym=%v-%s", s.Bits, s.GroupSize, s.Symmetric, dt), uint64(10*i+j),
				PackQuantized{Scheme: s, Scales: dt}, s, dt, false, [2]int{19, 192}, [2]int{3, 64})
		}
		for j, s := range []Scheme{{4, -1, true}, {4, -1, false}, {8, -1, false}} {
			ints(fmt.Sprintf("pack%d-channel-sym=%v-%s", s.Bits, s.Symmetric, dt), uint64(100+10*i+j),
				PackQuantized{Scheme: s, Scales: dt}, s, dt, false, [2]int{21, 77}, [2]int{1, 5})
		}
		for j, s := range []Scheme{{4, 32, true}, {8, 16, false}} {
			ints(fmt.Sprintf("pack%d-order-sym=%v-%s", s.Bits, s.Symmetric, dt), uint64(200+10*i+j),
				PackQuantized{Scheme: s, Scales: dt, ActOrder: true}, s, dt, true, [2]int{9, 160})
		}
		for j, sym := range []bool{true, false} {
			ints(fmt.Sprintf("int8-sym=%v-%s", sym, dt), uint64(300+10*i+j),
				IntQuantized{Symmetric: sym, Scales: dt}, Scheme{8, -1, sym}, dt, false, [2]int{13, 91}, [2]int{1, 1})
		}
	}
	list = append(list, floatExamples(t)...)
	return list
}

// floatExamples returns those whose codes are floats: made from weights, and of all codes there are.
func floatExamples(t testing.TB) []example {
	var list []example
	made := func(f Float, sizes ...[2]int) {
		name := fmt.Sprintf("%s-%s-%s", f.Format, f.Strategy, f.Scales)
		if f.Strategy == "" {
			name = f.Format
		}
		e := example{name: name, config: Config([]GroupConfig{{Setting: f}}, nil), tensors: memory{}, original: memory{}}
		r := rand.New(rand.NewPCG(uint64(len(list)), 9))
		for i, n := range sizes {
			w, module := gaussian(r, n[0], n[1]), fmt.Sprintf("m.%d", i)
			e.original.put(module+".weight", formats.F32, f32Bytes(w...), int64(n[0]), int64(n[1]))
			tensors, err := f.Quantize(module, w, n[0], n[1], 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range tensors {
				e.tensors[x.Name] = x
			}
		}
		list = append(list, e)
		if f.Format == FormatFloat {
			return
		}
		// The same layout with codes and scales of the whole range.
		e = example{name: name + "-codes", config: e.config, tensors: memory{}}
		for i, n := range sizes {
			for _, x := range f.Tensors(fmt.Sprintf("c.%d", i), int64(n[0]), int64(n[1])) {
				size, _ := x.Bytes()
				data := bytesOf(r, int(size), 0, 256)
				switch {
				case x.DType == formats.F32:
					data = f32Bytes(float32(1 + 3000*r.Float64()))
				case x.DType == formats.F8E4M3:
					data = codes8(r, int(size))
				case x.Name[len(x.Name)-len(suffixScale):] == suffixScale:
					data = bytesOf(r, int(size), 0, 252)
				}
				e.tensors.put(x.Name, x.DType, data, x.Shape...)
			}
		}
		list = append(list, e)
	}
	for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		made(Float{FormatFloat, StrategyTensor, dt}, [2]int{17, 33}, [2]int{1, 3})
		made(Float{FormatFloat, StrategyChannel, dt}, [2]int{17, 33}, [2]int{5, 1})
		made(Float{FormatFloat, StrategyBlock, dt}, [2]int{256, 384}, [2]int{200, 300}, [2]int{7, 130}, [2]int{128, 128})
	}
	made(Float{Format: FormatNVFP4}, [2]int{9, 48}, [2]int{3, 16}, [2]int{1, 160})
	made(Float{Format: FormatMXFP4}, [2]int{9, 96}, [2]int{3, 32})
	return append(list, readExamples(t)...)
}

// readExamples returns those of formats that are read and not written, and of mixed formats.
func readExamples(t testing.TB) []example {
	r := rand.New(rand.NewPCG(5, 11))
	mx8 := example{name: "mxfp8", tensors: memory{}, config: json.RawMessage(`{"quant_method":"compressed-tensors","format":"mxfp8-quantized","ignore":[],
		"config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":8,"type":"float","strategy":"group","group_size":32,"scale_dtype":"torch.uint8"}}}}`)}
	mx8.tensors.put("m.weight", formats.F8E4M3, codes8(r, 7*96), 7, 96)
	mx8.tensors.put("m.weight_scale", formats.U8, bytesOf(r, 21, 0, 246), 7, 3)

	group := example{name: "fp8-group", tensors: memory{}, config: json.RawMessage(`{"quant_method":"compressed-tensors","format":"naive-quantized","ignore":[],
		"config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":8,"type":"float","strategy":"group","group_size":40}}}}`)}
	group.tensors.put("m.weight", formats.F8E4M3, codes8(r, 6*120), 6, 120)
	group.tensors.put("m.weight_scale", formats.BF16, scalesOf(t, r, 18, formats.BF16), 6, 3)

	codes := example{name: "fp8-codes", tensors: memory{}, config: Config([]GroupConfig{
		{Targets: []string{"re:.*tensor$"}, Setting: Float{FormatFloat, StrategyTensor, formats.F16}},
		{Targets: []string{"channel"}, Setting: Float{FormatFloat, StrategyChannel, formats.BF16}},
		{Setting: Float{FormatFloat, StrategyBlock, formats.F32}}}, []string{"lm_head"})}
	codes.tensors.put("a.tensor.weight", formats.F8E4M3, codes8(r, 300), 3, 100)
	codes.tensors.put("a.tensor.weight_scale", formats.F16, scalesOf(t, r, 1, formats.F16), 1)
	codes.tensors.put("channel.weight", formats.F8E4M3, codes8(r, 300), 3, 100)
	codes.tensors.put("channel.weight_scale", formats.BF16, scalesOf(t, r, 3, formats.BF16), 3, 1)
	codes.tensors.put("block.weight", formats.F8E4M3, codes8(r, 130*129), 130, 129)
	codes.tensors.put("block.weight_scale", formats.F32, scalesOf(t, r, 4, formats.F32), 2, 2)

	block := example{name: "fp8-method", tensors: memory{}, config: json.RawMessage(
		`{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,64],"modules_to_not_convert":["lm_head"]}`)}
	block.tensors.put("m.weight", formats.F8E4M3, codes8(r, 130*200), 130, 200)
	block.tensors.put("m.weight_scale_inv", formats.F32, scalesOf(t, r, 8, formats.F32), 2, 4)

	opt := example{name: "modelopt-nvfp4", tensors: memory{}, config: json.RawMessage(`{"quant_method":"modelopt","quant_algo":"NVFP4","ignore":["lm_head"]}`)}
	opt.tensors.put("m.weight", formats.U8, bytesOf(r, 5*24, 0, 256), 5, 24)
	opt.tensors.put("m.weight_scale", formats.F8E4M3, codes8(r, 15), 5, 3)
	opt.tensors.put("m.weight_scale_2", formats.F32, f32Bytes(0.000123), 1)
	opt.tensors.put("m.input_scale", formats.F32, f32Bytes(0.01), 1)
	list := []example{mx8, group, codes, block, opt, mixedExample(t)}
	// The presets NVFP4 and FP8, whose activations have scales in the file.
	for _, f := range []Float{{Format: FormatNVFP4}, {FormatFloat, StrategyTensor, formats.BF16}} {
		g := f.group()
		e := example{name: f.Format + "-static", tensors: memory{}}
		if f.Format == FormatNVFP4 {
			g.InputActivations = newArgs("float", 4, strategyLocal)
			g.InputActivations.GroupSize, g.InputActivations.ScaleDType = ptr(16), ptr("torch.float8_e4m3fn")
			g.InputActivations.Dynamic, g.InputActivations.Observer = json.RawMessage(`"local"`), ptr("static_minmax")
			e.tensors.put("m.input_global_scale", formats.F32, f32Bytes(33), 1)
		} else {
			g.InputActivations = newArgs("float", 8, StrategyTensor)
			e.tensors.put("m.input_scale", formats.BF16, []byte{0x80, 0x3f}, 1)
		}
		e.config = Config([]GroupConfig{{Setting: written{f, g}}}, nil)
		tensors, err := f.Quantize("m", gaussian(r, 6, 32), 6, 32, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tensors {
			e.tensors[x.Name] = x
		}
		list = append(list, e)
	}
	return list
}

// written is a setting with an entry of config_groups that is not its own.
type written struct {
	Float
	g group
}

func (w written) group() group { return w.g }

// mixedExample returns one whose modules are stored in four formats.
func mixedExample(t testing.TB) example {
	r := rand.New(rand.NewPCG(6, 13))
	pack := PackQuantized{Scheme: Scheme{4, 32, false}, Scales: formats.BF16}
	whole := IntQuantized{Symmetric: true, Scales: formats.BF16}
	fp8, fp4 := Float{FormatFloat, StrategyChannel, formats.BF16}, Float{Format: FormatNVFP4}
	e := example{name: "mixed", tensors: memory{}, config: Config([]GroupConfig{
		{Targets: []string{"re:.*down_proj$"}, Setting: fp8}, {Targets: []string{"re:.*q_proj$"}, Setting: whole},
		{Targets: []string{"re:.*up_proj$"}, Setting: fp4}, {Setting: pack}}, []string{"lm_head"})}
	w := gaussian(r, 8, 64)
	var lists [4][]formats.Tensor
	var errs [4]error
	lists[0], errs[0] = fp8.Quantize("l.down_proj", w, 8, 64, 0)
	lists[1], errs[1] = whole.Encode("l.q_proj", randomAffine(r, 8, 64, Scheme{8, -1, true}, formats.BF16, false))
	lists[2], errs[2] = fp4.Quantize("l.up_proj", w, 8, 64, 0)
	lists[3], errs[3] = pack.Encode("l.o_proj", randomAffine(r, 8, 64, pack.Scheme, formats.BF16, false))
	for i, list := range lists {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		for _, x := range list {
			e.tensors[x.Name] = x
		}
	}
	return e
}

// write makes a folder of the checkpoint.
func (e example) write(t *testing.T, dir string) {
	dir = filepath.Join(dir, e.name)
	config, err := json.Marshal(map[string]any{"quantization_config": e.config})
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
	}
	if err == nil {
		err = e.tensors.write(filepath.Join(dir, "model.safetensors"))
	}
	if err == nil && len(e.original) > 0 {
		err = e.original.write(filepath.Join(dir, "original.safetensors"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a safetensors file.
func (m memory) write(path string) error {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, at := map[string]entry{}, int64(0)
	var data []byte
	list := m.Tensors()
	// Wide types first, so that each lies where its type wants to.
	slices.SortStableFunc(list, func(a, b formats.TensorInfo) int { return b.DType.Size() - a.DType.Size() })
	for _, t := range list {
		n := int64(len(m[t.Name].Data))
		header[t.Name] = entry{t.DType.String(), t.Shape, [2]int64{at, at + n}}
		data, at = append(data, m[t.Name].Data...), at+n
	}
	h, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	return os.WriteFile(path, slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h, data), 0o644)
}
