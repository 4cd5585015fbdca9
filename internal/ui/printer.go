package ui

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Options configure a Printer. The zero value of everything but the writers is a plain human view.
type Options struct {
	Out, Err io.Writer
	JSON     bool
	Quiet    bool // people see results, warnings and failures only
	// OutTerminal and ErrTerminal say whether the writers are terminals, which is what colour and bars are for.
	OutTerminal, ErrTerminal bool
	NoColor                  bool
	Clock                    func() time.Time // time.Now where nil
}

// Printer shows events in one of the two views. It is safe for concurrent use.
type Printer struct {
	mu    sync.Mutex
	opt   Options
	view  view
	begun map[string]time.Time // steps that are running
	bar   *bar                 // nil where no progress is shown
	err   error                // first failed write
}

// view renders events. The printer's lock is held.
type view interface {
	show(e Event) error
	rows(rows []PlanRow) error
}

// New returns a printer.
func New(o Options) *Printer {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	p := &Printer{opt: o, begun: map[string]time.Time{}}
	if o.JSON {
		p.view = &jsonView{out: o.Out}
	} else {
		p.view = &human{out: o.Out, err: o.Err, quiet: o.Quiet,
			outStyle: style{o.OutTerminal && !o.NoColor}, errStyle: style{o.ErrTerminal && !o.NoColor}}
	}
	return p
}

// Auto returns a printer for the process's own files: colour and bars where they are terminals, no colour where NO_COLOR is
// set to anything (https://no-color.org) or the terminal is a dumb one.
func Auto(stdout, stderr *os.File, jsonView, quiet, noColor bool) *Printer {
	dumb := os.Getenv("TERM") == "dumb"
	return New(Options{
		Out: stdout, Err: stderr, JSON: jsonView, Quiet: quiet,
		OutTerminal: term.IsTerminal(int(stdout.Fd())), ErrTerminal: term.IsTerminal(int(stderr.Fd())) && !dumb,
		NoColor: noColor || dumb || os.Getenv("NO_COLOR") != "",
	})
}

// Show shows one event.
func (p *Printer) Show(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.locked(e)
}

// locked shows an event with the lock held and the bar out of the way.
func (p *Printer) locked(e Event) {
	p.bar.clear()
	switch s := e.(type) {
	case StepStarted:
		p.begun[s.Step] = p.opt.Clock()
	case StepFinished:
		if t, ok := p.begun[s.Step]; ok {
			s.Seconds = p.opt.Clock().Sub(t).Round(time.Millisecond).Seconds()
			delete(p.begun, s.Step)
		}
		e = s
	}
	p.keep(p.view.show(e))
}

// Rows shows the rows of a plan; people see their columns aligned.
func (p *Printer) Rows(rows []PlanRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar.clear()
	p.keep(p.view.rows(rows))
}

func (p *Printer) keep(err error) {
	if p.err == nil && err != nil {
		p.err = err
	}
}

// Err returns the first error of writing: output that nobody receives should not look like success.
func (p *Printer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return errors.Join(errors.New("ui: writing output"), p.err)
	}
	return nil
}
