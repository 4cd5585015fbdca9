package ui

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func work(p *Printer, steps int64) {
	g := p.Progress()
	g.Add(1) // before Start: ignored
	g.Start("profile", steps)
	for range steps {
		g.Add(1)
	}
	g.Add(5) // more than announced: ignored
	g.Done()
	g.Done()
}

func TestBarOnTerminalsOnly(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want bool
	}{
		{"terminal", Options{ErrTerminal: true}, true},
		{"terminal without colour", Options{ErrTerminal: true, NoColor: true}, true},
		{"pipe", Options{}, false},
		{"only stdout is a terminal", Options{OutTerminal: true}, false},
		{"quiet", Options{ErrTerminal: true, Quiet: true}, false},
	} {
		var out, err bytes.Buffer
		c.o.Out, c.o.Err = &out, &err
		work(New(c.o), 10)
		if got := strings.Contains(err.String(), "profile") && strings.Contains(err.String(), "/10"); got != c.want || out.Len() > 0 {
			t.Errorf("%s: bar is %t: %q, stdout %q", c.name, got, err.String(), out.String())
		}
		if c.o.NoColor && strings.Contains(err.String(), "\x1b") {
			t.Errorf("%s: escape codes in %q", c.name, err.String())
		}
	}
}

// The bar shows elapsed time and time left once it knows a rate.
func TestBarShowsTimeLeft(t *testing.T) {
	var err bytes.Buffer
	p := New(Options{Out: &err, Err: &err, ErrTerminal: true, NoColor: true})
	g := p.Progress()
	g.Start("profile", 1000)
	for range 3 {
		time.Sleep(350 * time.Millisecond)
		g.Add(100)
	}
	g.Done()
	if !strings.Contains(err.String(), "[1s:") && !strings.Contains(err.String(), "[0s:") {
		t.Errorf("no elapsed:left in %q", err.String())
	}
}

// A line that is printed while a bar is shown starts on an empty line.
func TestLinesClearTheBar(t *testing.T) {
	var err bytes.Buffer
	p := New(Options{Out: &err, Err: &err, ErrTerminal: true})
	g := p.Progress()
	g.Start("profile", 10)
	g.Add(1)
	p.Show(Note{"interrupting"})
	g.Done()
	if !strings.Contains(err.String(), "\x1b[2K\rinterrupting\n") {
		t.Errorf("%q", err.String())
	}
}

func TestJSONProgressIsThrottled(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	p := New(Options{Out: &out, JSON: true, Clock: func() time.Time { return now }})
	g := p.Progress()
	g.Start("profile", 100)
	for range 100 {
		now = now.Add(25 * time.Millisecond)
		g.Add(1)
	}
	g.Done()
	want := ""
	for _, done := range []int{0, 40, 80, 100} {
		want += fmt.Sprintf(`{"event":"progress","name":"profile","done":%d,"total":100}`+"\n", done)
	}
	if out.String() != want {
		t.Errorf("\n%s", out.String())
	}
}

func TestSilent(t *testing.T) {
	Silent.Start("x", 1)
	Silent.Add(1)
	Silent.Done()
}
