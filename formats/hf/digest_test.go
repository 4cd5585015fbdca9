package hf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
)

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// parallel runs each body in its own goroutine, last first.
func parallel(n int, body func(i int)) {
	var wg sync.WaitGroup
	for i := n - 1; i >= 0; i-- {
		wg.Go(func() { body(i) })
	}
	wg.Wait()
}

func TestDigests(t *testing.T) {
	c := openTree(t, sharded)
	one := openTree(t, tree{"config.json": "{}", "model.safetensors": weights("b", "c", "a")})
	want := "a\x00U8\x002\x00" + sha("ab") + "\nb\x00U8\x002\x00" + sha("bc") + "\nc\x00U8\x002\x00" + sha("cd") + "\n"
	for _, src := range []formats.Source{c, one} {
		for _, par := range []func(int, func(int)){nil, parallel} {
			var last int64
			digests, err := Digests(t.Context(), src, DigestOptions{Par: par, Progress: func(done, total int64) {
				if done <= last || done > total || total != 6 {
					t.Errorf("progress %d of %d after %d", done, total, last)
				}
				last = done
			}})
			if err != nil || last != 6 || len(digests) != 3 {
				t.Fatal(digests, err, last)
			}
			if got := WeightsDigest(digests); got != "tensors-v1:sha256:"+sha(want) {
				t.Errorf("weights digest %s", got)
			}
			slices.Reverse(digests)
			if got := WeightsDigest(digests); got != "tensors-v1:sha256:"+sha(want) {
				t.Error("the weights digest depends on the order")
			}
		}
		if got := HeadersDigest(src.Tensors()); got != "sha256:"+sha("a\x00U8\x002\nb\x00U8\x002\nc\x00U8\x002\n") {
			t.Errorf("headers digest %s", got)
		}
	}
}

func TestDigestLines(t *testing.T) {
	d := []TensorDigest{
		{formats.TensorInfo{Name: "w", DType: formats.BF16, Shape: []int64{256, 1024}}, "ab"},
		{formats.TensorInfo{Name: "s", DType: formats.F32, Shape: []int64{}}, "cd"},
	}
	if got, want := WeightsDigest(d), "tensors-v1:sha256:"+sha("s\x00F32\x00\x00cd\nw\x00BF16\x00256,1024\x00ab\n"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// bigSource has tensors of more than one chunk whose bytes are computed.
type bigSource struct {
	sizes []int64
	fail  int // index of the tensor whose reads fail, -1 for none
}

var errRead = errors.New("read failed")

func (b bigSource) Tensors() []formats.TensorInfo {
	var list []formats.TensorInfo
	for i, n := range b.sizes {
		list = append(list, formats.TensorInfo{Name: fmt.Sprintf("t%02d", i), DType: formats.U8, Shape: []int64{n}})
	}
	return list
}

func (b bigSource) Lookup(name string) (formats.TensorInfo, bool) {
	var i int
	fmt.Sscanf(name, "t%02d", &i)
	return b.Tensors()[i], true
}

func (b bigSource) ReadAt(name string, p []byte, off int64) error {
	if b.fail >= 0 && strings.HasSuffix(name, fmt.Sprint(b.fail)) {
		return errRead
	}
	for i := range p {
		p[i] = byte((off + int64(i)) % 253)
	}
	return nil
}

func TestDigestChunks(t *testing.T) {
	src := bigSource{[]int64{0, 1, digestChunk - 1, digestChunk, digestChunk + 1, 3*digestChunk + 5}, -1}
	digests, err := Digests(t.Context(), src, DigestOptions{Par: parallel})
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range digests {
		all := make([]byte, src.sizes[i])
		src.ReadAt(d.Name, all, 0)
		if d.SHA256 != sha(string(all)) {
			t.Errorf("%s of %d bytes: %s", d.Name, src.sizes[i], d.SHA256)
		}
	}
}

func TestDigestErrors(t *testing.T) {
	src := bigSource{[]int64{10, 10, 10}, 1}
	for _, par := range []func(int, func(int)){nil, parallel} {
		if d, err := Digests(t.Context(), src, DigestOptions{Par: par}); !errors.Is(err, errRead) || d != nil {
			t.Errorf("%v, %v", d, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Digests(ctx, bigSource{[]int64{10}, -1}, DigestOptions{Par: par}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
