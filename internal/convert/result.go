package convert

import (
	"fmt"
	"sort"

	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
)

// Schema is the version of what a conversion says of itself.
const Schema = "compress-conversion/v1"

// Result is what a conversion says of itself. It holds no clock, host or path.
type Result struct {
	Schema        string        `json:"schema"`
	Tool          planfile.Tool `json:"tool"`
	Model         string        `json:"model"`
	From          string        `json:"from"` // the source's format
	To            string        `json:"to"`
	SourceHeaders string        `json:"source_headers_digest"`
	BytesBefore   int64         `json:"tensor_bytes_before"`
	BytesAfter    int64         `json:"tensor_bytes_after"`
	// Tensors has a note for each tensor, in the order of the result; empty where nothing was written.
	Tensors  []Note   `json:"tensors"`
	Files    []File   `json:"files"`
	Proof    *Proof   `json:"proof,omitempty"`
	Warnings []string `json:"warnings"`
}

// File is a file of the result with its size, which is known before it is written.
type File struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Proof is the comparison of what was written with the source, after it was read again.
type Proof struct {
	Weights int   `json:"weights"` // whose codes were carried over
	Values  int64 `json:"values"`  // of them, all equal to the source's
}

// add enters a weight that was compared, and fails where a value changed.
func (p *Proof) add(name string, sum errorSum) error {
	if sum.changed > 0 {
		return gate("%s: %d of %d values differ from the source although its codes were carried over", name, sum.changed, sum.n)
	}
	p.Weights++
	p.Values += sum.n
	return nil
}

// Row sums the tensors of one kind.
type Row struct {
	How, From, To string
	Tensors       int
	Values        int64
	Changed       int64
	Sampled       bool    // of one tensor at least, one chunk in 16 was compared
	Worst         float64 // relative error of the worst tensor
	WorstTensor   string
}

// Rows sums the notes by what was done.
func (r *Result) Rows() []Row {
	var rows []Row
	at := map[string]int{}
	for _, n := range r.Tensors {
		key := fmt.Sprint(n.How, "|", n.From, "|", n.To)
		i, ok := at[key]
		if !ok {
			i = len(rows)
			at[key] = i
			rows = append(rows, Row{How: n.How, From: n.From, To: n.To})
		}
		row := &rows[i]
		row.Tensors++
		row.Values += n.Values
		row.Changed += n.Changed
		row.Sampled = row.Sampled || n.Sampled
		if n.RelativeError > row.Worst {
			row.Worst, row.WorstTensor = n.RelativeError, n.Tensor
		}
	}
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].Tensors > rows[j].Tensors })
	return rows
}

// lost is the relative error past which little is left of a tensor: what 2 bits leave is below it.
const lost = 0.5

// warnLost says which tensors nearly vanished: their values are too small for the scales that the format has.
func (o *Options) warnLost(r *Result) {
	n, first := 0, Note{}
	for _, t := range r.Tensors {
		if t.RelativeError > lost {
			if n++; n == 1 {
				first = t
			}
		}
	}
	if n > 0 {
		w := fmt.Sprintf("%d tensors nearly vanished: the first, %s, has a relative error of %.3g as %s", n, first.Tensor, first.RelativeError, first.To)
		r.Warnings = append(r.Warnings, w)
		o.warn(w)
	}
}

func (o *Options) report(r *Result) error {
	if o.Report == nil {
		return nil
	}
	return o.Report(r)
}

// lossy lists the tensors of which a value changed.
func lossy(notes []Note) []Note {
	var list []Note
	for _, n := range notes {
		if n.Changed > 0 {
			list = append(list, n)
		}
	}
	return list
}

// checkLossless fails a conversion that changed values although it must not.
func (o *Options) checkLossless(notes []Note) error {
	list := lossy(notes)
	if !o.Lossless || len(list) == 0 {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.KindGate, Hint: "leave --lossless out, or choose a format that holds these values",
		Err: fmt.Errorf("convert: %d tensors would change, the first is %q: %d of %d values (%s to %s) %s", len(list), list[0].Tensor,
			list[0].Changed, list[0].Values, list[0].From, list[0].To, list[0].Why)}
}
