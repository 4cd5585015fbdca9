package convert

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// measured are models whose importance llama-imatrix has measured: the matrices lie in ../../formats/imatrix/testdata.
func measured() []testmodel.Case {
	return []testmodel.Case{
		{Name: "llama", Options: testmodel.Options{D: 256, H: 4, G: 2, F: 512, V: 256, Seed: 51}},
		{Name: "deep", Options: testmodel.Options{Layers: 8, D: 32, H: 2, F: 64, V: 256, Tied: true, Seed: 52}},
		{Name: "gpt2", Options: testmodel.Options{Family: "gpt2", D: 64, H: 4, V: 256, Seed: 53}},
	}
}

// llama-imatrix was given the text of three windows of these many tokens.
const measuredLength, measuredWindows = 64, 3

// withTokenizer writes a model with a tokenizer of one token a byte.
func withTokenizer(t *testing.T, m *testmodel.Model) string {
	t.Helper()
	dir := write(t, m)
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), testmodel.Tokenizer(), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// text returns printable characters, a function of the model's seed.
func textFile(o testmodel.Options) []byte {
	var b []byte
	for _, row := range testmodel.Windows(measuredWindows, measuredLength, 94, o.Seed) {
		for _, id := range row {
			b = append(b, byte('!'+id))
		}
	}
	return b
}

// idFile writes the text as token ids, in windows.
func idFile(t *testing.T, text []byte) string {
	t.Helper()
	head := fmt.Sprintf("{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }", measuredWindows, measuredLength)
	head += strings.Repeat(" ", 63-(10+len(head))%64) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
	b = append(b, head...)
	for _, c := range text {
		b = binary.LittleEndian.AppendUint32(b, uint32(c))
	}
	path := filepath.Join(t.TempDir(), "ids.npy")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// golden is the path of llama-imatrix's file for a model.
func golden(name string) string {
	return filepath.Join("..", "..", "formats", "imatrix", "testdata", name)
}

// llama runs a program of the llama.cpp in the directory LLAMA_CPP.
func llama(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	c := exec.Command(filepath.Join(os.Getenv("LLAMA_CPP"), program), args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// plain converts a model to F32.
func plain(t *testing.T, src string) string {
	t.Helper()
	out, _ := convert(t, src, GGUF, func(o *Options) { o.Type = "f32" })
	return out
}

// remeasure lets llama-imatrix make the files of both forms again.
func remeasure(t *testing.T, c testmodel.Case, src string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text.txt"), textFile(c.Options), 0o644); err != nil {
		t.Fatal(err)
	}
	length := fmt.Sprint(measuredLength)
	for _, form := range []string{"gguf", "dat"} {
		out, err := filepath.Abs(golden(c.Name + "." + form))
		if err != nil {
			t.Fatal(err)
		}
		llama(t, dir, "llama-imatrix", "-m", plain(t, src), "-f", "text.txt", "-o", out, "--output-format", form, "--no-ppl", "--process-output",
			"-c", length, "-b", length, "-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off")
	}
}

// The sums are those of llama-imatrix, but for rounding, which adds up in float32. LLAMA_CPP=DIR makes the goldens again.
func TestImportanceIsThatOfLlamaImatrix(t *testing.T) {
	for _, c := range measured() {
		t.Run(c.Name, func(t *testing.T) {
			src := withTokenizer(t, testmodel.New(c.Options))
			ids := idFile(t, textFile(c.Options))
			if os.Getenv("LLAMA_CPP") != "" {
				remeasure(t, c, src)
			}
			o := pipeline.EvalOptions{ModelDir: src, Data: ids, Length: measuredLength, BOS: "none", Env: options("", "", "").Env}
			got, err := pipeline.ImportanceMatrix(t.Context(), o, true)
			if err != nil {
				t.Fatal(err)
			}
			want, err := imatrix.Read(golden(c.Name + ".gguf"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Chunks != want.Chunks || got.ChunkSize != want.ChunkSize || len(got.Entries) != len(want.Entries) || got.Datasets[0] != "ids.npy" {
				t.Fatalf("%d entries, %d windows of %d; llama-imatrix has %d, %d of %d", len(got.Entries), got.Chunks, got.ChunkSize,
					len(want.Entries), want.Chunks, want.ChunkSize)
			}
			worst := 0.0
			for i, e := range got.Entries {
				w := want.Entries[i]
				if e.Tensor != w.Tensor || !slices.Equal(e.Counts, w.Counts) || len(e.Sums) != len(w.Sums) {
					t.Fatalf("%s: counts %v of %d; llama-imatrix has %s: %v of %d", e.Tensor, e.Counts, len(e.Sums), w.Tensor, w.Counts, len(w.Sums))
				}
				for j, v := range e.Sums {
					worst = max(worst, math.Abs(float64(v)/float64(w.Sums[j])-1))
				}
			}
			most := 2e-5
			if c.Options.Family == "gpt2" {
				most = 2e-3 // ggml looks GELU up in a table of F16
			}
			t.Logf("largest relative difference %.3g", worst)
			if !(worst <= most) {
				t.Errorf("sums differ by %.3g", worst)
			}
		})
	}
}

// matrices are importance matrices for a model: both files of llama-imatrix, and one with what no text gives. It has no block without any importance,
// of which ggml makes zeros, and no importance so small that sums of its squares vanish in float32.
func matrices(t *testing.T, name string) map[string]*imatrix.Matrix {
	t.Helper()
	list := map[string]*imatrix.Matrix{}
	for _, form := range []string{"gguf", "dat"} {
		m, err := imatrix.Read(golden(name + "." + form))
		if err != nil {
			t.Fatal(err)
		}
		list[form] = m
	}
	odd := &imatrix.Matrix{Datasets: []string{"odd"}, Chunks: 1, ChunkSize: 1}
	for i, e := range list["gguf"].Entries {
		e.Sums, e.Counts = slices.Clone(e.Sums), slices.Clone(e.Counts)
		for j := range e.Sums {
			switch i % 4 {
			case 0: // inputs without any importance, but for a few of each block
				if j%5 > 0 {
					e.Sums[j] = 0
				}
			case 1: // nothing went through
				e.Counts[0] = 0
			case 2:
				e.Sums[j] *= 1e-9
			case 3:
				e.Sums[j] *= float32(math.Pow(10, float64(j%7-3)))
			}
		}
		odd.Entries = append(odd.Entries, e)
	}
	list["odd"] = odd
	return list
}

// blockTypes are the types of GGUF files whose blocks are searched.
var blockTypes = []string{"q4_0", "q4_1", "q5_0", "q5_1", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"}

// digests lists the tensors of a file by name, with their types and the digests of their bytes.
func digests(t *testing.T, path string) string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for _, x := range f.Tensors() {
		n, err := x.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		if err := f.ReadAt(x.Name, b, 0); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %x\n", x.Name, x.Type, sha256.Sum256(b)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Files weighted by importance have the bytes of llama-quantize's, which the golden has the digests of. LLAMA_CPP=DIR makes it again.
func TestWeightedBlocksAreThoseOfLlamaQuantize(t *testing.T) {
	const file = "testdata/importance.txt"
	var ours, theirs strings.Builder
	remake := os.Getenv("LLAMA_CPP") != ""
	for _, c := range measured() {
		src := withTokenizer(t, testmodel.New(c.Options))
		list := matrices(t, c.Name)
		for _, form := range []string{"gguf", "dat", "odd"} {
			var source, matrix string
			if remake {
				source, matrix = plain(t, src), golden(c.Name+"."+form)
				if form == "odd" {
					matrix = filepath.Join(t.TempDir(), "odd.gguf")
					if err := imatrix.Write(matrix, list[form]); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, typ := range blockTypes {
				if form == "dat" && typ != "q4_0" && typ != "q4_k_m" {
					continue // the numbers differ in their last bits from those of the other form
				}
				title := fmt.Sprintf("%s.%s %s ", c.Name, form, typ)
				out, _ := convert(t, src, GGUF, func(o *Options) { o.Type, o.Importance = typ, list[form] })
				fmt.Fprintf(&ours, "%s%x\n", title, sha256.Sum256([]byte(digests(t, out))))
				if remake {
					other := filepath.Join(t.TempDir(), "theirs.gguf")
					llama(t, "", "llama-quantize", "--imatrix", matrix, source, other, strings.ToUpper(typ), "1")
					want := digests(t, other)
					fmt.Fprintf(&theirs, "%s%x\n", title, sha256.Sum256([]byte(want)))
					if got := digests(t, out); got != want {
						t.Errorf("%s\n%swant\n%s", title, got, want)
					}
				}
			}
		}
	}
	if remake {
		if err := os.WriteFile(file, []byte(theirs.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(ours.String()) {
		if !strings.Contains(string(want), line) {
			t.Errorf("llama-quantize does not write %s", line)
		}
	}
}
