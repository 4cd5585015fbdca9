//go:build cuda

package cuda

import (
	"slices"

	cu "gorgonia.org/cu"
)

// timeline is a stream whose work is numbered: what is queued now has the number tick. A mark is an event behind all work up to its
// number, and what is queued after it has a higher one. Its methods want Device.order held.
type timeline struct {
	stream cu.Stream
	other  *timeline
	tick   int64
	marks  []mark // ascending, maxMarks at most
	spare  []cu.Event
	over   int64 // work up to here is done
	seen   int64 // work up to here of the other stream comes before what is queued here
}

type mark struct {
	tick  int64
	event cu.Event
}

// maxMarks bounds the events of a stream. Where one is missing, a later one is waited for.
const maxMarks = 64

func newTimeline() (*timeline, error) {
	s, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		return nil, failed("cuStreamCreate", err, "")
	}
	return &timeline{stream: s, tick: 1}, nil
}

// mark puts an event behind what is queued and returns its number.
func (l *timeline) mark() (mark, error) {
	event, err := l.event()
	if err != nil {
		return mark{}, err
	}
	if err := event.Record(l.stream); err != nil {
		l.spare = append(l.spare, event)
		return mark{}, failed("cuEventRecord", err, "")
	}
	m := mark{l.tick, event}
	l.marks = append(l.marks, m)
	l.tick++
	return m, nil
}

// event returns an event to record: a spare one, a new one, or that of a mark which may go. What waits for an event waits for what it
// stood for when the wait was queued.
func (l *timeline) event() (cu.Event, error) {
	for len(l.marks) >= maxMarks && l.marks[0].event.Query() == nil {
		l.over = l.marks[0].tick
		l.drop(0)
	}
	for len(l.marks) > 0 && l.marks[0].tick <= l.other.seen {
		l.drop(0)
	}
	if len(l.marks) >= maxMarks {
		l.drop(maxMarks / 2)
	}
	if n := len(l.spare); n > 0 {
		e := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return e, nil
	}
	e, err := cu.MakeEvent(cu.DisableTiming)
	return e, failed("cuEventCreate", err, "")
}

// drop takes a mark away; work behind it is waited for at the next one.
func (l *timeline) drop(i int) {
	l.spare = append(l.spare, l.marks[i].event)
	l.marks = slices.Delete(l.marks, i, i+1)
}

// after returns the first mark behind work of that number, which it makes where there is none.
func (l *timeline) after(tick int64) (mark, error) {
	i, _ := slices.BinarySearchFunc(l.marks, tick, func(m mark, t int64) int { return int(min(1, max(-1, m.tick-t))) })
	if i < len(l.marks) {
		return l.marks[i], nil
	}
	return l.mark()
}

// follow makes all work that l gets from now on wait for work of the other stream up to that number.
func (l *timeline) follow(tick int64) error {
	if tick <= l.seen || tick <= l.other.over {
		return nil
	}
	m, err := l.other.after(tick)
	if err != nil {
		return err
	}
	if err := l.stream.Wait(m.event, 0); err != nil {
		return failed("cuStreamWaitEvent", err, "")
	}
	l.seen = m.tick
	return nil
}

// close gives the stream and its events back.
func (l *timeline) close() {
	for i := range l.marks {
		_ = cu.DestroyEvent(&l.marks[i].event)
	}
	for i := range l.spare {
		_ = cu.DestroyEvent(&l.spare[i])
	}
	_ = l.stream.Destroy()
}
