package ui

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress receives how far long work is: Start, then Adds that sum to total, then Done. A Start while another work is
// shown replaces it. Implementations are safe for concurrent use.
type Progress interface {
	Start(name string, total int64)
	Add(n int64)
	Done()
}

// Silent is a Progress that shows nothing.
var Silent Progress = silent{}

type silent struct{}

func (silent) Start(string, int64) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}

// Progress returns the printer's own progress: a bar with the time left where stderr is a terminal, events in the JSON view,
// nothing elsewhere.
func (p *Printer) Progress() Progress { return &reporter{p: p} }

// every is the least time between two progress events of the JSON view.
const every = time.Second

type reporter struct {
	p    *Printer
	at   Progressed
	last time.Time // of the last event
	open bool
}

// StartUnits is Start for work that is counted in units of a name, whose number a second the bar shows.
func (r *reporter) StartUnits(name, unit string, total int64) { r.start(name, unit, total) }

// Note says how the work goes, beside its name.
func (r *reporter) Note(text string) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if !r.open {
		return
	}
	r.at.Note = text
	r.p.bar.describe(clean(r.at.Name + ", " + text))
}

func (r *reporter) Start(name string, total int64) { r.start(name, "", total) }

func (r *reporter) start(name, unit string, total int64) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.at, r.open = Progressed{Name: name, Total: max(total, 0)}, true
	r.p.bar.clear()
	r.p.bar = nil
	switch {
	case r.p.opt.JSON:
		r.event()
	case r.p.opt.ErrTerminal && !r.p.opt.Quiet && total > 0:
		r.p.bar = newBar(r.p.opt.Err, clean(name), unit, total, !r.p.opt.NoColor)
	}
}

func (r *reporter) Add(n int64) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if !r.open {
		return
	}
	n = min(n, r.at.Total-r.at.Done)
	r.at.Done += n
	if r.p.opt.JSON {
		if r.at.Done < r.at.Total && r.p.opt.Clock().Sub(r.last) >= every {
			r.event()
		}
		return
	}
	r.p.bar.add(n)
}

func (r *reporter) Done() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if !r.open {
		return
	}
	r.open = false
	if r.p.opt.JSON {
		r.event()
	}
	r.p.bar.clear()
	r.p.bar = nil
}

// event writes the state; the lock is held.
func (r *reporter) event() {
	r.last = r.p.opt.Clock()
	r.p.locked(r.at)
}

// bar is one progress bar. A nil bar shows nothing.
type bar struct{ b *progressbar.ProgressBar }

func newBar(w io.Writer, name, unit string, total int64, color bool) *bar {
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(name),
		progressbar.OptionSetWidth(24),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionUseANSICodes(color),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	}
	if unit != "" {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
	}
	return &bar{progressbar.NewOptions64(total, options...)}
}

// add ignores the bar's errors: a terminal that went away must not stop the work.
func (b *bar) add(n int64) {
	if b != nil {
		_ = b.b.Add64(n)
	}
}

// describe replaces the name.
func (b *bar) describe(name string) {
	if b != nil {
		b.b.Describe(name)
	}
}

// clear takes the bar off the screen; the next add draws it again.
func (b *bar) clear() {
	if b != nil {
		_ = b.b.Clear()
	}
}
