package convert

import (
	"sync"
	"testing"
	"time"

	"modelpress/internal/pipeline"
	"modelpress/internal/testmodel"
)

// meter is a Progress that notes how far each work came.
type meter struct {
	mu   sync.Mutex
	name string
	left map[string]int64
}

func (m *meter) Start(name string, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == nil {
		m.left = map[string]int64{}
	}
	m.name = name
	m.left[name] = total
}

func (m *meter) Add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left[m.name] -= n
}

func (m *meter) Done() {}

// Every work is shown to its end and not beyond.
func TestProgress(t *testing.T) {
	src := write(t, small(func(o *testmodel.Options) { o.V, o.Tied = 3000, true }))
	gpt := write(t, testmodel.Named("gpt2"))
	codes, _ := convert(t, src, GPTQ, func(o *Options) { o.Group = 32 })
	for _, c := range []struct {
		model, format string
		change        func(o *Options)
	}{
		{src, Same, nil}, {src, Safetensors, func(o *Options) { o.DType, o.Untie = "f16", true }}, {src, Packed, func(o *Options) { o.Scheme = "fp8" }},
		{src, AWQ, func(o *Options) { o.Group = 32 }}, {codes, AWQ, nil}, {codes, GGUF, nil}, {codes, Safetensors, nil}, {src, GGUF, func(o *Options) { o.Type = "q8_0" }},
		{gpt, GGUF, nil}, {gpt, GGUF, func(o *Options) { o.Type = "q4_0" }},
	} {
		m := &meter{}
		convert(t, c.model, c.format, func(o *Options) {
			o.Env.Progress = m
			if c.change != nil {
				c.change(o)
			}
		})
		if _, ok := m.left["converting"]; !ok {
			t.Errorf("%s: nothing was shown", c.format)
		}
		for name, left := range m.left {
			if left != 0 {
				t.Errorf("%s: %s ends with %d left", c.format, name, left)
			}
		}
	}
}

// Memory is shared: what does not fit waits, and what never fits takes all of it.
func TestRoom(t *testing.T) {
	r := newRoom(10)
	if n := r.take(7); n != 7 {
		t.Errorf("took %d", n)
	}
	done := make(chan int64)
	go func() { done <- r.take(1 << 40) }()
	select {
	case n := <-done:
		t.Fatalf("took %d of 3", n)
	case <-time.After(20 * time.Millisecond):
	}
	r.give(7)
	if n := <-done; n != 10 {
		t.Errorf("took %d", n)
	}
	r.give(10)
	src := write(t, small(nil))
	o := options(src, Packed, "")
	o.Scheme, o.Group, o.Env.MaxMemory = "fp8", 0, 64<<20
	if _, err := Convert(t.Context(), o); pipeline.KindOf(err) != pipeline.KindResource {
		t.Errorf("64 MiB: %v", err)
	}
	o.Env.MaxMemory = 512 << 20
	if _, err := Convert(t.Context(), o); err != nil {
		t.Errorf("512 MiB: %v", err)
	}
}
