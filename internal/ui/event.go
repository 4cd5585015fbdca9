// Package ui shows what a command does, to people or to programs: one set of typed events, two views of them. For people,
// results go to stdout, narration and progress bars to stderr; for programs, every event is one line of JSON on stdout
// and nothing else is written. Progress bars exist only here.
package ui

// Event is something that a command has to say. Each kind has one JSON form: its fields, with "event" naming the kind.
type Event interface {
	kind() string
}

// StepStarted says that a step begins.
type StepStarted struct {
	Step string `json:"step"`
}

// StepFinished says that a step ended; Seconds is filled in by the printer.
type StepFinished struct {
	Step    string  `json:"step"`
	Summary string  `json:"summary,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Progressed says how far something is. It appears in the JSON view only; people see a bar.
type Progressed struct {
	Name  string `json:"name"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
	Note  string `json:"note,omitempty"` // how it goes, such as a loss
}

// PlanRow is one line of a plan. Delta is the change of stored bytes, 0 where it is of no interest.
type PlanRow struct {
	Step  string `json:"step"`
	Mark  string `json:"mark"` // "+", "-", "~", "±" or "="
	Scope string `json:"scope"`
	Text  string `json:"text"`
	Delta int64  `json:"delta,omitempty"`
}

// Warning is something that the user should know and that stops nothing.
type Warning struct {
	Text   string `json:"text"`
	Tensor string `json:"tensor,omitempty"`
}

// Note is narration: what is being done. People see it on stderr.
type Note struct {
	Text string `json:"text"`
}

// Gate is the outcome of a bound that the result had to keep.
type Gate struct {
	Metric string  `json:"metric"`
	Op     string  `json:"op"`
	Bound  float64 `json:"bound"`
	Value  float64 `json:"value"`
	Passed bool    `json:"passed"`
}

// Result is what the command was called for. Programs get Data, people the map, the table and then the lines.
type Result struct {
	Name    string      `json:"name"`
	Data    any         `json:"data,omitempty"`
	Map     *HeadMap    `json:"-"`
	MapView HeadMapView `json:"-"`
	Table   *Table      `json:"-"`
	Lines   []string    `json:"-"`
}

// Next is the exact command to run next.
type Next struct {
	Command string `json:"command"`
}

// Failure is the error that ended the command, with its exit code.
type Failure struct {
	Text string `json:"text"`
	Code int    `json:"code"`
}

func (StepStarted) kind() string  { return "step_started" }
func (StepFinished) kind() string { return "step_finished" }
func (Progressed) kind() string   { return "progress" }
func (PlanRow) kind() string      { return "plan_row" }
func (Warning) kind() string      { return "warning" }
func (Note) kind() string         { return "note" }
func (Gate) kind() string         { return "gate" }
func (Result) kind() string       { return "result" }
func (Next) kind() string         { return "next" }
func (Failure) kind() string      { return "failure" }
