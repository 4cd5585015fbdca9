package calib

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// docsOf yields documents of ids that are joined into a stream.
func docsOf(ids ...[]int32) Docs {
	return func(yield func(Document, error) bool) {
		for i, d := range ids {
			if !yield(Document{Name: fmt.Sprintf("doc %d", i), IDs: d}, nil) {
				return
			}
		}
	}
}

// noise returns n ids below 50000 that repeat no span for another seed.
func noise(seed uint64, n int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 99))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = rng.Int32N(50000)
	}
	return ids
}

func id(v int32) *int32 { return &v }

// byteEncoder is an Encoder of one id a byte.
type byteEncoder struct{}

func (byteEncoder) Encode(s string) []int32 {
	ids := make([]int32, len(s))
	for i := range s {
		ids[i] = int32(s[i])
	}
	return ids
}

func TestSetJoinsDocuments(t *testing.T) {
	set, err := BuildSet(docsOf([]int32{1, 2, 3}, []int32{4, 5}, []int32{6, 7, 8}), nil,
		SetOptions{Length: 4, BOS: id(0), EOS: id(9)})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]int32{{0, 1, 2, 3}, {0, 9, 4, 5}, {0, 9, 6, 7}}
	if !slices.EqualFunc(set.Calib.IDs, want, slices.Equal) || len(set.Heldout.IDs) != 0 || set.Documents != 3 {
		t.Error(set)
	}
	set, err = BuildSet(docsOf([]int32{1, 2, 3, 4, 5}), nil, SetOptions{Length: 2, BOS: id(0), ReplaceBOS: true, Sequences: 2})
	if err != nil || !slices.EqualFunc(set.Calib.IDs, [][]int32{{0, 2}, {0, 4}}, slices.Equal) {
		t.Error(set, err)
	}
	text := func(yield func(Document, error) bool) { yield(Document{Text: "abcd"}, nil) }
	set, err = BuildSet(text, byteEncoder{}, SetOptions{Length: 2})
	if err != nil || !slices.EqualFunc(set.Calib.IDs, [][]int32{{'a', 'b'}, {'c', 'd'}}, slices.Equal) {
		t.Error(set, err)
	}
}

// TestSetRows keeps rows of tokenized input as they are: the identity.
func TestSetRows(t *testing.T) {
	rows := [][]int32{noise(1, 8), noise(2, 8), noise(3, 8), noise(4, 8)}
	set, err := BuildSet(RowDocs("x", rows), nil, SetOptions{Length: 8, Sequences: 4})
	if err != nil || !slices.EqualFunc(set.Calib.IDs, rows, slices.Equal) {
		t.Error(set, err)
	}
	if set.Calib.Digest != NewWindows(rows).Digest {
		t.Error("digest differs")
	}
	set, err = BuildSet(RowDocs("x", rows), nil, SetOptions{Length: 5, EOS: id(1)})
	if err != nil || len(set.Calib.IDs) != 4 || !slices.Equal(set.Calib.IDs[3], rows[3][:5]) {
		t.Error(set, err)
	}
	ragged := [][]int32{noise(1, 8), noise(2, 3), noise(3, 1), noise(4, 5)}
	set, err = BuildSet(docsOf(ragged...), nil, SetOptions{Sequences: 3})
	if err != nil || len(set.Calib.IDs) != 3 || len(set.Calib.IDs[1]) != 3 || len(set.Calib.IDs[2]) != 5 {
		t.Error(set, err)
	}
}

// shared reports whether a run of n ids occurs in both sides, by comparing all of them.
func shared(a, b [][]int32, n int) bool {
	seen := map[string]bool{}
	runs := func(w []int32, f func(string)) {
		for i := 0; i+n <= len(w); i++ {
			f(fmt.Sprint(w[i : i+n]))
		}
	}
	for _, w := range a {
		runs(w, func(s string) { seen[s] = true })
	}
	found := false
	for _, w := range b {
		runs(w, func(s string) { found = found || seen[s] })
	}
	return found
}

// TestSetSidesAreDisjoint gives documents that copy from each other.
func TestSetSidesAreDisjoint(t *testing.T) {
	seed := uint64(7)
	var ids [][]int32
	for i := range 60 {
		d := noise(uint64(i), 700)
		if i%3 == 2 {
			copy(d[100:190], ids[i-2][37:]) // 90 tokens copied from another document
		}
		if i%7 == 6 {
			d = slices.Clone(ids[i-5])
		}
		ids = append(ids, d)
	}
	for name, opt := range map[string]SetOptions{
		"first":      {Length: 128, Sequences: 100, HoldoutSequences: 60},
		"draw":       {Length: 128, Sequences: 40, HoldoutSequences: 20, Seed: &seed, BOS: id(0)},
		"short span": {Length: 128, Sequences: 40, HoldoutSequences: 20, Span: 16},
	} {
		set, err := BuildSet(docsOf(ids...), nil, opt)
		if err != nil {
			t.Fatal(name, err)
		}
		span := opt.Span
		if span == 0 {
			span = DefaultSpan
		}
		if len(set.Calib.IDs) != opt.Sequences || len(set.Heldout.IDs) != opt.HoldoutSequences {
			t.Errorf("%s: %d, %d windows", name, len(set.Calib.IDs), len(set.Heldout.IDs))
		}
		if shared(set.Calib.IDs, set.Heldout.IDs, span) {
			t.Errorf("%s: the sides share a span", name)
		}
		if name == "first" && set.Overlaps == 0 {
			t.Errorf("%s: nothing was left out", name)
		}
		again, err := BuildSet(docsOf(ids...), nil, opt)
		if err != nil || again.Digest != set.Digest {
			t.Errorf("%s: not the same twice", name)
		}
	}
	other := uint64(8)
	a, _ := BuildSet(docsOf(ids...), nil, SetOptions{Length: 128, Sequences: 40, Seed: &seed})
	b, _ := BuildSet(docsOf(ids...), nil, SetOptions{Length: 128, Sequences: 40, Seed: &other})
	if a.Digest == b.Digest {
		t.Error("the seed changes nothing")
	}
}

// TestSetWholeDocuments checks that no document lies on both sides.
func TestSetWholeDocuments(t *testing.T) {
	var ids [][]int32
	for i := range 40 {
		d := make([]int32, 300)
		for j := range d {
			d[j] = int32(i*1000 + j)
		}
		ids = append(ids, d)
	}
	set, err := BuildSet(docsOf(ids...), nil, SetOptions{Length: 100, Sequences: 60, HoldoutSequences: 20})
	if err != nil {
		t.Fatal(err)
	}
	side := map[int32]int{}
	for s, w := range [][][]int32{set.Calib.IDs, set.Heldout.IDs} {
		for _, ids := range w {
			for _, v := range ids {
				if old, ok := side[v/1000]; ok && old != s {
					t.Fatalf("document %d lies on both sides", v/1000)
				}
				side[v/1000] = s
			}
		}
	}
}

// TestSetSingleDocument cuts a lone document in two, and a separate held-out input stays apart.
func TestSetSingleDocument(t *testing.T) {
	one := noise(5, 1000)
	for _, docs := range []Docs{docsOf(one), RowDocs("x", [][]int32{one})} {
		set, err := BuildSet(docs, nil, SetOptions{Length: 100, Sequences: 7, HoldoutSequences: 3})
		if err != nil || len(set.Calib.IDs) != 7 || len(set.Heldout.IDs) != 3 || !slices.Equal(set.Heldout.IDs[0], one[700:800]) {
			t.Error(set, err)
		}
	}
	set, err := BuildSet(docsOf(one), nil, SetOptions{Length: 100, HoldoutSequences: 2, Heldout: docsOf(one[900:], noise(6, 300))})
	if err != nil || len(set.Calib.IDs) != 10 || set.Overlaps != 1 || !slices.Equal(set.Heldout.IDs[0], noise(6, 300)[:100]) {
		t.Error(set, err)
	}
}

func TestSetErrors(t *testing.T) {
	fail := func(yield func(Document, error) bool) { yield(Document{}, errors.New("disk on fire")) }
	text := func(yield func(Document, error) bool) { yield(Document{Name: "a.txt", Text: "abc"}, nil) }
	for _, c := range []struct {
		docs Docs
		opt  SetOptions
		want string
	}{
		{docsOf(noise(1, 250)), SetOptions{Length: 100, Sequences: 3}, "2 of 3 calibration windows of 100 tokens (from 250 tokens on this side, 1 documents in all): give more data"},
		{docsOf(noise(1, 99)), SetOptions{Length: 100}, "0 of 1 calibration windows of 100"},
		{docsOf(noise(1, 200), noise(2, 50)), SetOptions{Length: 100, Sequences: 2, HoldoutSequences: 1}, "0 of 1 held-out windows"},
		{docsOf(noise(1, 200), noise(1, 200)), SetOptions{Length: 100, Sequences: 2, HoldoutSequences: 2}, "2 more repeat a span of 64 tokens"},
		{docsOf([]int32{1, 2, 300}), SetOptions{Length: 2, Vocab: 300}, "doc 0: id 300 at position 2 lies outside the vocabulary of 300"},
		{docsOf([]int32{1, -2}), SetOptions{Length: 2, Vocab: 300}, "id -2 at position 1"},
		{docsOf([]int32{1, 2}), SetOptions{Length: 2, Vocab: 3, BOS: id(3)}, "BOS id 3"},
		{docsOf([]int32{1, 2}), SetOptions{Length: 2, Vocab: 3, EOS: id(-1)}, "EOS id -1"},
		{docsOf([]int32{1, 2}), SetOptions{Length: 1}, "predict nothing"},
		{docsOf([]int32{1, 2}), SetOptions{Length: -1}, "negative"},
		{docsOf([]int32{1, 2}), SetOptions{Length: 2, HoldoutSequences: 1}, "need a number of calibration sequences"},
		{fail, SetOptions{Length: 2}, "disk on fire"},
		{text, SetOptions{Length: 2}, "a.txt: is text"},
	} {
		_, err := BuildSet(c.docs, nil, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		var fe *formats.Error
		if !strings.Contains(c.want, "fire") && !errors.As(err, &fe) {
			t.Errorf("%v is no formats.Error", err)
		}
	}
}

func TestWindowsDigest(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range [][][]int32{{}, {{}}, {{1}}, {{1, 2}}, {{1}, {2}}, {{2}, {1}}, {{256}}, {{1}, {}}} {
		d := NewWindows(w).Digest
		if seen[d] || !strings.HasPrefix(d, "sha256:") || len(d) != 71 {
			t.Errorf("%v: %s", w, d)
		}
		seen[d] = true
	}
	// sha256 of two counts and two ids, computed with coreutils from the bytes in the comment of Windows.
	const want = "sha256:b6a6d273899efdad682ffcb80d102a9a22cab9c6718dc8fe1283771267e66bd9"
	if got := NewWindows([][]int32{{1, 2}}).Digest; got != want {
		t.Errorf("got %s", got)
	}
}

func TestSpansRolling(t *testing.T) {
	a := newSpans(5)
	w := noise(3, 40)
	a.add(w)
	for i := 0; i+5 <= len(w); i++ {
		if !a.shares(w[i : i+5]) {
			t.Fatalf("run %d is not found", i)
		}
		x := slices.Clone(w[i : i+5])
		x[2]++
		if a.shares(x) {
			t.Fatalf("run %d is found though changed", i)
		}
	}
	a.add([]int32{1, 2})
	if !a.shares([]int32{1, 2}) || a.shares([]int32{2, 1}) || a.shares([]int32{1}) {
		t.Error("short windows")
	}
}

// Windows that share a long enough run with others are left out, and no others.
func TestWindowsWithout(t *testing.T) {
	run := func(from, n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(from + i)
		}
		return out
	}
	held := NewWindows([][]int32{run(1000, 100)})
	w := NewWindows([][]int32{run(0, 100), run(1030, 100), run(1040, 100), append(run(5000, 30), run(1010, DefaultSpan)...)})
	got := w.Without(held)
	// 1030 to 1099 are 70 tokens in a row, 1040 to 1099 only 60.
	if len(got.IDs) != 2 || got.IDs[0][0] != 0 || got.IDs[1][0] != 1040 {
		t.Errorf("kept %d windows", len(got.IDs))
	}
	if all := w.Without(Windows{}); all.Digest != w.Digest {
		t.Error("nothing to leave out, and windows are missing")
	}
}
