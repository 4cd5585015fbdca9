package distill

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// predictions writes a file and returns what was written.
func predictions(t testing.TB, path string, h TopKHeader) *TopK {
	t.Helper()
	var top TopK
	if err := top.Select(randoms(int(h.Tokens)*h.Vocab, 4, 50, uint64(h.K)), int(h.Tokens), h.Vocab, h.K, h.Temperature, nil); err != nil {
		t.Fatal(err)
	}
	w, err := CreateTopK(path, h)
	if err != nil {
		t.Fatal(err)
	}
	for lo := 0; lo < top.Rows(); lo += 3 { // in pieces
		n := min(3, top.Rows()-lo)
		part := &TopK{K: h.K, Temperature: h.Temperature, IDs: top.IDs[lo*h.K:][:n*h.K], Log: top.Log[lo*h.K:][:n*h.K], Rest: top.Rest[lo:][:n]}
		if err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &top
}

// TestTopKFile: what was written comes back, in any piece, within the stored type's resolution and normalised.
func TestTopKFile(t *testing.T) {
	for _, h := range []TopKHeader{
		{Vocab: 300, K: 7, Tokens: 11, Temperature: 1.5, Run: [32]byte{1, 2, 3}},
		{Vocab: 70000, K: 20, Tokens: 4, Temperature: 1, Half: true, Run: [32]byte{9}},
		{Vocab: 2, K: 1, Tokens: 1, Temperature: 1},
		{Vocab: 10, K: 3, Tokens: 0, Temperature: 1},
	} {
		path := filepath.Join(t.TempDir(), "top")
		want := predictions(t, path, h)
		if info, err := os.Stat(path); err != nil || info.Size() != h.Bytes() {
			t.Fatalf("%v, want %d bytes (%v)", info, h.Bytes(), err)
		}
		f, err := OpenTopK(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Header != h {
			t.Errorf("header %+v, want %+v", f.Header, h)
		}
		var got TopK
		for lo := range int(h.Tokens) {
			n := min(3, int(h.Tokens)-lo)
			if err := f.Read(&got, int64(lo), n); err != nil {
				t.Fatal(err)
			}
			if got.K != h.K || got.Temperature != h.Temperature || !slices.Equal(got.IDs, want.IDs[lo*h.K:][:n*h.K]) {
				t.Fatalf("ids %v, want %v", got.IDs, want.IDs[lo*h.K:][:n*h.K])
			}
			off := 1e-6
			if h.Half {
				off = 1e-2
			}
			for i, l := range got.Log {
				if l := float64(l); math.Abs(l-float64(want.Log[lo*h.K+i])) > off*math.Max(1, -l) {
					t.Errorf("log %g, want %g", l, want.Log[lo*h.K+i])
				}
			}
			for i, r := range got.Rest {
				sum := math.Exp(float64(r))
				for _, l := range got.Log[i*h.K:][:h.K] {
					sum += math.Exp(float64(l))
				}
				if math.Abs(sum-1) > 1e-6 {
					t.Errorf("probabilities add up to %g", sum)
				}
			}
		}
		for _, bad := range [][2]int64{{-1, 1}, {0, h.Tokens + 1}, {h.Tokens, 1}, {0, -1}, {math.MaxInt64, 1}} {
			if err := f.Read(&got, bad[0], int(bad[1])); err == nil {
				t.Errorf("rows %v of %d are read", bad, h.Tokens)
			}
		}
	}
}

// sealed returns content with its digest.
func sealed(content []byte) []byte {
	sum := sha256.Sum256(content)
	return slices.Concat(content, sum[:])
}

// wantRefused checks that opening, or else reading everything, fails with an error that names the file.
func wantRefused(t *testing.T, what string, data []byte, want string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "top")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenTopK(path)
	if err == nil {
		defer f.Close()
		err = f.Read(&TopK{}, 0, int(f.Header.Tokens))
	}
	var e *formats.Error
	if !errors.As(err, &e) || e.File != "top" || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestTopKFileDamaged: every changed byte and every other length is noticed.
func TestTopKFileDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "top")
	h := TopKHeader{Vocab: 20, K: 2, Tokens: 3, Temperature: 1}
	predictions(t, path, h)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 1
		wantRefused(t, "a changed byte", bad, "")
		wantRefused(t, "a shorter file", data[:i], "")
	}
	wantRefused(t, "a longer file", append(slices.Clone(data), 0), "")
}

// TestTopKFileHostile: files whose digest is right and whose content is not.
func TestTopKFileHostile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "top")
	predictions(t, path, TopKHeader{Vocab: 20, K: 2, Tokens: 3, Temperature: 1})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content := data[:len(data)-sealBytes]
	const record = 2*2 + 3*4
	u16, u32, u64 := binary.LittleEndian.PutUint16, binary.LittleEndian.PutUint32, binary.LittleEndian.PutUint64
	second := topKHeaderBytes + record
	nan := math.Float32bits(float32(math.NaN()))
	for _, c := range []struct {
		name, want string
		change     func(b []byte)
	}{
		{"version", "another version", func(b []byte) { b[7] = 2 }},
		{"vocabulary", "vocabulary", func(b []byte) { u32(b[8:], 1) }},
		{"large vocabulary", "vocabulary", func(b []byte) { u32(b[8:], math.MaxUint32) }},
		{"smaller vocabulary", "token ids", func(b []byte) { u32(b[8:], 3) }},
		{"no outcomes", "top 0", func(b []byte) { u32(b[12:], 0) }},
		{"all outcomes", "top 20", func(b []byte) { u32(b[12:], 20) }},
		{"more outcomes", "bytes where", func(b []byte) { u32(b[12:], 3) }},
		{"more tokens", "bytes where", func(b []byte) { u64(b[16:], 4) }},
		{"many tokens", "tokens", func(b []byte) { u64(b[16:], 1<<60) }},
		{"negative tokens", "tokens", func(b []byte) { u64(b[16:], 1<<63) }},
		{"temperature", "temperature", func(b []byte) { u64(b[24:], math.Float64bits(math.Inf(1))) }},
		{"zero temperature", "temperature", func(b []byte) { u64(b[24:], 0) }},
		{"type", "not known", func(b []byte) { b[32] = 3 }},
		{"other type", "bytes where", func(b []byte) { b[32] = 2 }},
		{"reserved", "not known", func(b []byte) { b[39] = 1 }},
		{"id", "token 1", func(b []byte) { u16(b[second+2:], 20) }},
		{"order", "token 1", func(b []byte) { copy(b[second+2:second+4], b[second:second+2]) }},
		{"probability", "token 1: probabilities", func(b []byte) { u32(b[second+4:], math.Float32bits(0.5)) }},
		{"NaN", "token 1: probabilities", func(b []byte) { u32(b[second+8:], nan) }},
		{"rest", "token 1: probabilities", func(b []byte) { u32(b[second+12:], math.Float32bits(0)) }},
	} {
		b := slices.Clone(content)
		c.change(b)
		wantRefused(t, c.name, sealed(b), c.want)
	}
	wantRefused(t, "nothing", sealed(nil), "header")
	wantRefused(t, "an empty file", nil, "few")
	if _, err := OpenTopK(t.TempDir()); err == nil {
		t.Error("a directory opens")
	}
	if _, err := OpenTopK(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestTopKWriterRefuses: rows that do not fit, and files that are not whole, leave nothing behind.
func TestTopKWriterRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "top")
	h := TopKHeader{Vocab: 20, K: 2, Tokens: 2, Temperature: 1}
	good := func(n int) *TopK {
		var top TopK
		if err := top.Select(randoms(20*n, 1, 3), n, 20, 2, 1, nil); err != nil {
			t.Fatal(err)
		}
		return &top
	}
	hot, swapped, loose := good(1), good(1), good(1)
	hot.Temperature = 2
	swapped.IDs[0], swapped.IDs[1] = swapped.IDs[1], swapped.IDs[0]
	loose.Log[0] += 1
	for i, rows := range [][]*TopK{{}, {good(1)}, {good(3)}, {hot}, {swapped}, {loose}, {good(1), loose, good(1)}} {
		w, err := CreateTopK(path, h)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			_ = w.Write(r)
		}
		if err := w.Close(); err == nil {
			t.Errorf("case %d passes", i)
		}
	}
	w, err := CreateTopK(path, h)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v stay behind", left)
	}
	for i, bad := range []TopKHeader{{}, {Vocab: 20, K: 20, Temperature: 1}, {Vocab: 1 << 23, K: 1, Temperature: 1},
		{Vocab: 1 << 20, K: maxTopK + 1, Temperature: 1}, {Vocab: 20, K: 2}, {Vocab: 20, K: 2, Temperature: 1, Tokens: math.MaxInt64 / 8}} {
		if _, err := CreateTopK(path, bad); err == nil {
			t.Errorf("header %d passes", i)
		}
	}
}

// FuzzTopKFile: no content makes reading it fail in another way than by an error.
func FuzzTopKFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "top")
	predictions(f, path, TopKHeader{Vocab: 20, K: 2, Tokens: 3, Temperature: 1, Half: true})
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:len(data)-sealBytes])
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "top")
		if err := os.WriteFile(path, sealed(content), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := OpenTopK(path)
		if err != nil {
			return
		}
		defer file.Close()
		var top TopK
		if file.Read(&top, 0, int(file.Header.Tokens)) != nil {
			return
		}
		if v, rows := file.Header.Vocab, top.Rows(); v*rows < 1<<20 {
			loss := LogitLoss{KL: 1, Temperature: top.Temperature}
			if _, err := loss.ApplyTopK(make([]float32, rows*v), &top, 0, nil, rows, v, nil); err != nil && !errors.Is(err, ErrNotFinite) {
				t.Error(err)
			}
		}
	})
}
