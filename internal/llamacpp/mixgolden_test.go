package llamacpp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
	"modelpress/internal/testmodel"
)

// mixed are models whose types llama-quantize has listed.
func mixed() []testmodel.Case {
	type per = map[int]testmodel.Sizes
	return []testmodel.Case{
		{Name: "llama", Options: testmodel.Options{Layers: 17, D: 256, H: 2, F: 256, V: 4}},
		{Name: "llama-tied", Options: testmodel.Options{Layers: 9, D: 256, H: 4, G: 1, F: 288, V: 4, Tied: true}},
		{Name: "llama-small", Options: testmodel.Options{Layers: 8, D: 64, H: 4, F: 96, V: 4}},
		{Name: "llama-deci", Options: testmodel.Options{Layers: 11, D: 256, H: 4, F: 256, V: 4, PerLayer: per{2: {NoAttention: true},
			4: {H: 2, G: 1}, 5: {F: 512}, 10: {NoAttention: true}}}},
		{Name: "qwen2-tied", Options: testmodel.Options{Family: "qwen2", Layers: 24, D: 256, H: 2, G: 1, F: 64, V: 4, Tied: true}},
		{Name: "qwen3", Options: testmodel.Options{Family: "qwen3", Layers: 3, D: 256, H: 2, G: 1, K: 256, F: 256, V: 4}},
		{Name: "gpt2", Options: testmodel.Options{Family: "gpt2", Layers: 12, D: 256, H: 4, F: 256, V: 4, Context: 64}},
		{Name: "deep", Options: testmodel.Options{Layers: 80, D: 256, H: 2, G: 1, F: 256, V: 4}},
	}
}

// The types are those that llama-quantize writes. The lists of testdata come from the program in the directory LLAMA_CPP.
func TestMixGolden(t *testing.T) {
	for _, c := range mixed() {
		t.Run(c.Name, func(t *testing.T) {
			src, m := described(t, c.Options)
			file := "mix-" + c.Name + ".txt"
			if dir := os.Getenv("LLAMA_CPP"); dir != "" {
				if err := os.WriteFile(filepath.Join("testdata", file), []byte(quantizedTypes(t, dir, src, m)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			list := ""
			for _, name := range Mixes() {
				text, _ := types(t, name, m, false)
				list += name + "\n" + deviating(text)
			}
			compare(t, file, list)
		})
	}
}

// deviating leaves the lines that are not of the most frequent type, and that type. Vectors in F32 are left out.
func deviating(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	times, most := map[string]int{}, ""
	typeOf := func(line string) string { return line[strings.LastIndexByte(line, ' ')+1:] }
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return typeOf(line) == "F32" && (strings.Contains(line, "norm") || strings.Contains(line, ".bias "))
	})
	for _, line := range lines[1:] {
		k := typeOf(line)
		if times[k]++; times[k] > times[most] || times[k] == times[most] && k < most {
			most = k
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, mostly %s\n", lines[0], most)
	for _, line := range lines[1:] {
		if typeOf(line) != most {
			fmt.Fprintln(&b, line)
		}
	}
	return b.String()
}

// quantizedTypes lets llama-quantize write the model in every type.
func quantizedTypes(t *testing.T, dir string, src *testmodel.Model, m *Model) string {
	t.Helper()
	from := write(t, src, m, noVocab)
	var b strings.Builder
	for _, name := range Mixes() {
		b.WriteString(name + "\n" + deviating(quantizedType(t, dir, from, name, m)))
	}
	return b.String()
}

// quantizedType lets llama-quantize write a model in one type, and returns the number of that and the type of each tensor.
func quantizedType(t *testing.T, dir, from, name string, m *Model, flags ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), name+".gguf")
	args := append(slices.Clip(flags), from, to, strings.ToUpper(name), "1")
	if text, err := exec.Command(filepath.Join(dir, "llama-quantize"), args...).CombinedOutput(); err != nil {
		t.Fatalf("llama-quantize %s: %v\n%s", name, err, text)
	}
	f, err := gguf.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	number, _ := f.Lookup(keyFileType)
	var list strings.Builder
	fmt.Fprintln(&list, "file type", number.Data)
	for i := range m.Tensors { // in our order
		x, ok := f.Find(m.Tensors[i].Name)
		if !ok {
			t.Fatalf("%s lacks %s", name, m.Tensors[i].Name)
		}
		fmt.Fprintln(&list, x.Name, x.Type)
	}
	if len(f.Tensors()) != len(m.Tensors) {
		t.Fatalf("%s has %d tensors of %d", name, len(f.Tensors()), len(m.Tensors))
	}
	return list.String()
}

// So are those of files that an importance matrix is known for: the golden has the tensors whose type that changes.
func TestMixGoldenImportance(t *testing.T) {
	const file = "mix-importance.txt"
	dir := os.Getenv("LLAMA_CPP")
	var ours, theirs string
	for _, c := range mixed() {
		src, m := described(t, c.Options)
		var from, matrix string
		if dir != "" {
			from, matrix = write(t, src, m, noVocab), filepath.Join(t.TempDir(), "imatrix.gguf")
			if err := imatrix.Write(matrix, even(m)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range Mixes() {
			plain, _ := types(t, name, m, false)
			known, _ := types(t, name, m, true)
			ours += changed(c.Name+" "+name, plain, known)
			if dir != "" {
				theirs += changed(c.Name+" "+name, quantizedType(t, dir, from, name, m), quantizedType(t, dir, from, name, m, "--imatrix", matrix))
			}
		}
	}
	if dir != "" {
		if err := os.WriteFile(filepath.Join("testdata", file), []byte(theirs), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, file, ours)
}

// even is an importance matrix that says the same of every input.
func even(m *Model) *imatrix.Matrix {
	x := &imatrix.Matrix{Name: "even", Datasets: []string{"none"}, Chunks: 1, ChunkSize: 1}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if _, ok := t.Use.Site(); ok {
			_, columns := t.Size()
			x.Entries = append(x.Entries, imatrix.Entry{Tensor: t.Name, Sums: slices.Repeat([]float32{1}, int(columns)), Counts: []float32{1}})
		}
	}
	slices.SortFunc(x.Entries, func(a, b imatrix.Entry) int { return strings.Compare(a.Tensor, b.Tensor) })
	return x
}

// changed returns the lines of b that a has not, under a title; "" where there are none.
func changed(title, a, b string) string {
	had := strings.Split(a, "\n")
	var out strings.Builder
	for line := range strings.Lines(b) {
		if !slices.Contains(had, strings.TrimSuffix(line, "\n")) {
			out.WriteString("  " + line)
		}
	}
	if out.Len() == 0 {
		return ""
	}
	return title + "\n" + out.String()
}
