package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock advances by one second at each reading.
func clock() func() time.Time {
	now := time.Unix(0, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

// speak shows one event of every kind.
func speak(p *Printer) {
	p.Show(StepStarted{"heads"})
	p.Show(Note{"reading 57 tensors"})
	p.Show(StepFinished{Step: "heads", Summary: "8 of 48 full"})
	p.Rows([]PlanRow{
		{"heads", "~", "layers 0-5", "31 of 48 kv heads streaming", 0},
		{"quantize", "±", "42 tensors", "bf16 -> int4 g64", -7235174},
		{"quantize", "=", "3 tensors", "kept: embeddings, norms", 0},
	})
	p.Show(Warning{"plain rounding was used", "model.layers.0.q\x1b[31m"})
	p.Show(Gate{"perplexity_ratio", "<=", 1.05, 1.0123456, true})
	p.Show(Gate{"needle_drop", "<=", 0.02, 0.5, false})
	p.Show(Result{Name: "totals", Data: map[string]int{"after": 2, "before": 10}, Lines: []string{"10 B -> 2 B <exact>"},
		Table: &Table{Head: []string{"method", "ppl"}, Rows: [][]string{{"rtn", "8.25"}, {"gptq", "10.5"}}, Right: []bool{false, true}}})
	p.Show(Next{"compress apply plan.json"})
	p.Show(Failure{"it broke", 6})
}

func TestHuman(t *testing.T) {
	var out, err bytes.Buffer
	p := New(Options{Out: &out, Err: &err, Clock: clock()})
	speak(p)
	wantOut := `  heads     ~ layers 0-5  31 of 48 kv heads streaming
  quantize  ± 42 tensors  bf16 -> int4 g64             -6.9 MiB
            = 3 tensors   kept: embeddings, norms
gate passed: perplexity_ratio 1.01235 <= 1.05
gate failed: needle_drop 0.5 <= 0.02
method   ppl
rtn     8.25
gptq    10.5
10 B -> 2 B <exact>
Next: compress apply plan.json
`
	wantErr := `reading 57 tensors
done heads: 8 of 48 full (1.0 s)
warning: tensor "model.layers.0.q\x1b[31m": plain rounding was used
error: it broke
`
	if out.String() != wantOut {
		t.Errorf("stdout:\n%s", out.String())
	}
	if err.String() != wantErr {
		t.Errorf("stderr:\n%s", err.String())
	}
}

func TestQuietKeepsResults(t *testing.T) {
	var out, err bytes.Buffer
	speak(New(Options{Out: &out, Err: &err, Quiet: true}))
	if !strings.Contains(out.String(), "gate failed") || strings.Contains(err.String(), "reading") || !strings.Contains(err.String(), "warning") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", out.String(), err.String())
	}
}

func TestJSON(t *testing.T) {
	var out, err bytes.Buffer
	p := New(Options{Out: &out, Err: &err, JSON: true, ErrTerminal: true, OutTerminal: true, Clock: clock()})
	speak(p)
	var kinds []string
	for l := range strings.Lines(out.String()) {
		var e struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil || e.Event == "" {
			t.Errorf("%q: %v", l, err)
		}
		kinds = append(kinds, e.Event)
	}
	want := "step_started note step_finished plan_row plan_row plan_row warning gate gate result next failure"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, l := range []string{
		`{"event":"step_finished","step":"heads","summary":"8 of 48 full","seconds":1}`,
		`{"event":"result","name":"totals","data":{"after":2,"before":10}}`,
		`{"event":"gate","metric":"needle_drop","op":"<=","bound":0.02,"value":0.5,"passed":false}`,
	} {
		if !strings.Contains(out.String(), l+"\n") {
			t.Errorf("no line %s in\n%s", l, out.String())
		}
	}
	if err.Len() > 0 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("stderr %q, or colour in\n%s", err.String(), out.String())
	}
}

func TestColour(t *testing.T) {
	for _, c := range []struct {
		terminal, noColor, want bool
	}{{true, false, true}, {true, true, false}, {false, false, false}} {
		var out, err bytes.Buffer
		speak(New(Options{Out: &out, Err: &err, OutTerminal: c.terminal, ErrTerminal: c.terminal, NoColor: c.noColor}))
		if got := strings.Contains(out.String(), "\x1b[31mfailed\x1b[0m") && strings.Contains(err.String(), "\x1b[33mwarning:\x1b[0m"); got != c.want {
			t.Errorf("%+v: coloured is %t:\n%s%s", c, got, out.String(), err.String())
		}
		if plain := !strings.Contains(out.String()+err.String(), "\x1b"); plain == c.want {
			t.Errorf("%+v: plain is %t", c, plain)
		}
	}
}

func TestAuto(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, no := range []string{"", "1"} {
		t.Setenv("NO_COLOR", no)
		if o := Auto(f, f, false, false, false).opt; o.OutTerminal || o.ErrTerminal || o.NoColor != (no != "") && os.Getenv("TERM") != "dumb" {
			t.Errorf("NO_COLOR=%q: %+v", no, o)
		}
	}
}

// broken fails after some writes, like a pipe whose reader left.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

func TestErr(t *testing.T) {
	p := New(Options{Out: &broken{1}, Err: &bytes.Buffer{}, JSON: true})
	p.Show(Note{"a"})
	if p.Err() != nil {
		t.Error(p.Err())
	}
	p.Show(Note{"b"})
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	for _, j := range []bool{true, false} {
		var out bytes.Buffer
		p := New(Options{Out: &out, Err: &out, JSON: j, ErrTerminal: true})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				g := p.Progress()
				g.Start("work", 50)
				for range 50 {
					g.Add(1)
					p.Show(Note{"hello"})
				}
				g.Done()
			})
		}
		wg.Wait()
		if n := strings.Count(out.String(), "hello"); n != 400 {
			t.Errorf("%d notes", n)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1048575: "1.0 MiB", 11 << 20: "11.0 MiB",
		-7235174: "-6.9 MiB", 1 << 62: "4.0 EiB", -1 << 63: "-8.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if Delta(2048) != "+2.0 KiB" || Delta(-1) != "-1 B" || Delta(0) != "0 B" {
		t.Error(Delta(2048), Delta(-1), Delta(0))
	}
}
