package distill

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// someState returns a state with every type of vector, one longer than a buffer; key 0 leaves its values zero.
func someState(key uint64, long bool) *State {
	n := 5
	if long {
		n = fileBuffer/4 + 3
	}
	s := &State{Run: RunDigest([]byte("run")), Stop: EarlyStop{Patience: 3, Margin: 0.5}, Vectors: []Vector{
		{Name: "a", F32: make([]float32, n)}, {Name: "b", F64: make([]float64, 3)}, {Name: "", Half: make([]uint16, 7)}, {Name: "none"},
	}}
	if key == 0 {
		return s
	}
	s.Step, s.Stop.Best, s.Stop.BestStep, s.Stop.Worse, s.Stop.Seen = 90, -1.5, 80, 1, true
	copy(s.Vectors[0].F32, randoms(n, 1, key))
	s.Vectors[0].F32[1] = float32(math.NaN())
	copy(s.Vectors[1].F64, wide(randoms(3, 1, key, 1)))
	for i := range s.Vectors[2].Half {
		s.Vectors[2].Half[i] = uint16(newStream(key).at(uint64(i)))
	}
	return s
}

func sameState(a, b *State) bool {
	if a.Step != b.Step || a.Stop != b.Stop || a.Run != b.Run {
		return false
	}
	return slices.EqualFunc(a.Vectors, b.Vectors, func(x, y Vector) bool {
		return x.Name == y.Name && sameBits(x.F32, y.F32) && slices.Equal(x.F64, y.F64) && slices.Equal(x.Half, y.Half)
	})
}

func writtenState(t testing.TB, s *State) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := WriteState(path, s); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestState: what was written comes back bit for bit, over an older file, and the same state gives the same bytes.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for key := uint64(1); key < 4; key++ {
		want := someState(key, true)
		if err := WriteState(path, want); err != nil {
			t.Fatal(err)
		}
		got := someState(0, true)
		if err := ReadState(path, got); err != nil {
			t.Fatal(err)
		}
		if !sameState(got, want) {
			t.Errorf("state %d differs", key)
		}
		if data, err := os.ReadFile(path); err != nil || !slices.Equal(data, writtenState(t, want)) {
			t.Errorf("state %d has other bytes when written again (%v)", key, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%v stay behind", left)
	}
}

// wantNoState checks that data is refused with an error that names the file, and that nothing of the state changed.
func wantNoState(t *testing.T, what string, data []byte, s *State, want string, cause error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	before := *s
	err := ReadState(path, s)
	var e *formats.Error
	if !errors.As(err, &e) || e.File != "state" || !strings.Contains(err.Error(), want) || cause != nil && !errors.Is(err, cause) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
	if s.Step != before.Step || s.Stop != before.Stop {
		t.Errorf("%s: the state changed", what)
	}
	for _, v := range s.Vectors {
		if slices.Max(append(v.F32, 0)) != 0 || slices.Max(append(v.F64, 0)) != 0 || slices.Max(append(v.Half, 0)) != 0 {
			t.Errorf("%s: values changed", what)
		}
	}
}

// TestStateDamaged: every changed byte and every other length is noticed before anything is read.
func TestStateDamaged(t *testing.T) {
	data := writtenState(t, someState(1, false))
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 4
		wantNoState(t, "a changed byte", bad, someState(0, false), "", nil)
		wantNoState(t, "a shorter file", data[:i], someState(0, false), "", nil)
	}
	wantNoState(t, "a longer file", append(slices.Clone(data), 0), someState(0, false), "", nil)
	if err := ReadState(filepath.Join(t.TempDir(), "none"), someState(0, false)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := ReadState(t.TempDir(), someState(0, false)); err == nil {
		t.Error("a directory is read")
	}
}

// TestStateForeign: whole files of other runs, and with headers that no run leaves.
func TestStateForeign(t *testing.T) {
	data := writtenState(t, someState(1, false))
	for name, change := range map[string]func(s *State){
		"run":     func(s *State) { s.Run[31]++ },
		"fewer":   func(s *State) { s.Vectors = s.Vectors[:3] },
		"longer":  func(s *State) { s.Vectors[0].F32 = make([]float32, 6) },
		"type":    func(s *State) { s.Vectors[2] = Vector{Half: make([]uint16, 5)}; s.Vectors[0].F32 = make([]float32, 6) },
		"name":    func(s *State) { s.Vectors[0].Name = "c" },
		"swapped": func(s *State) { s.Vectors[0], s.Vectors[1] = s.Vectors[1], s.Vectors[0] },
	} {
		s := someState(0, false)
		change(s)
		wantNoState(t, name, data, s, "", ErrOtherRun)
	}
	content := data[:len(data)-sealBytes]
	for i, c := range []struct {
		at    int
		value uint64
		want  string
	}{
		{0, 7, "another version"}, {40, 1 << 63, "no run"}, {48, math.Float64bits(math.NaN()), "no run"},
		{48, math.Float64bits(math.Inf(1)), "no run"}, {56, 91, "no run"}, {64, 1 << 31, "no run"}, {72, 2, "no run"},
		{80, 1 << 40, "vectors"}, {stateFixed, 1 << 62, "vectors"}, {stateFixed + 16, 1 << 62, "vectors"},
	} {
		b := slices.Clone(content)
		binary.LittleEndian.PutUint64(b[c.at:], c.value)
		wantNoState(t, "case "+string(rune('0'+i)), sealed(b), someState(0, false), c.want, nil)
	}
}

// TestStateRefuses: lists that cannot be written, and a path that leads nowhere; the file that is there stays.
func TestStateRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := WriteState(path, someState(1, false)); err != nil {
		t.Fatal(err)
	}
	for i, s := range []*State{
		{Vectors: []Vector{{Name: "a"}, {Name: "a"}}}, {Vectors: []Vector{{Name: strings.Repeat("n", maxName+1)}}}, {Vectors: make([]Vector, maxVectors+1)},
	} {
		if err := WriteState(path, s); err == nil {
			t.Errorf("case %d is written", i)
		}
		if err := ReadState(path, s); err == nil {
			t.Errorf("case %d is read", i)
		}
	}
	if err := ReadState(path, someState(0, false)); err != nil {
		t.Error(err)
	}
	if err := WriteState(filepath.Join(path, "below"), someState(1, false)); err == nil {
		t.Error("written below a file")
	}
}

func TestRunDigest(t *testing.T) {
	a := RunDigest([]byte("ab"), []byte("c"))
	if a != RunDigest([]byte("ab"), []byte("c")) {
		t.Error("the digest is no function")
	}
	for _, parts := range [][][]byte{{[]byte("a"), []byte("bc")}, {[]byte("abc")}, {[]byte("ab"), []byte("c"), nil}, nil} {
		if RunDigest(parts...) == a {
			t.Errorf("%q has the same digest", parts)
		}
	}
}

// TestOptimizerResumes: a run that is cut off and goes on from its file ends with the bits of one that is not, in f32 and bfloat16.
func TestOptimizerResumes(t *testing.T) {
	src := testmodel.Named("llama-mqa-tied")
	m := described(t, src.Config, src)
	for _, half := range []bool{false, true} {
		begin := func() (*Params, *Optimizer) {
			p := newTestParams(t, src, m, half)
			o, err := NewOptimizer(p.List(), AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}, 3)
			if err != nil {
				t.Fatal(err)
			}
			return p, o
		}
		steps := func(o *Optimizer, from, to int64) {
			for step := from; step < to; step++ {
				var grads [][]float32
				for i, q := range o.Params() {
					grads = append(grads, randoms(q.Len(), 1, 110, uint64(step), uint64(i)))
				}
				o.Step(grads, 0.01, 0.5, nil)
			}
		}
		whole, o := begin()
		steps(o, 0, 4)
		path := filepath.Join(t.TempDir(), "state")
		_, o = begin()
		steps(o, 0, 2)
		if err := WriteState(path, &State{Step: o.Steps(), Vectors: o.Vectors()}); err != nil {
			t.Fatal(err)
		}
		p, o := begin()
		s := &State{Vectors: o.Vectors()}
		if err := ReadState(path, s); err != nil {
			t.Fatal(err)
		}
		o.Resume(s.Step)
		steps(o, s.Step, 4)
		for i, q := range p.List() {
			if w := whole.List()[i]; !sameBits(q.Values, w.Values) || !slices.Equal(q.Half, w.Half) {
				t.Errorf("half %t: %s differs", half, q.Name)
			}
		}
	}
}

// FuzzState: no content makes reading it fail in another way than by an error.
func FuzzState(f *testing.F) {
	data := writtenState(f, someState(1, false))
	f.Add(data[:len(data)-sealBytes])
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, sealed(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := someState(0, false)
		if err := ReadState(path, s); err == nil && len(content) != len(data)-sealBytes {
			t.Error("a file of another size is read")
		}
	})
}
