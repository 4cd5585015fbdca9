package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"modelpress/internal/convert"
	"modelpress/internal/ui"
)

func (a *app) diffCmd() *cobra.Command {
	var o convert.DiffOptions
	var most float64
	var detail func() (bool, error)
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two models value by value, in whatever formats they are",
		Long: `diff compares two models tensor by tensor: checkpoint directories, quantized or not, and GGUF files. It says how each tensor is stored, whether all values
are equal bit for bit, and how large the error is where they are not; and which keys of config.json, tokenizer files and attention plans differ.`,
		Example: `  compress diff llama llama-int4.gguf
  compress diff llama-awq llama-gptq --equal
  compress diff llama llama-q8.gguf --max-error 1e-4 --ignore 're:.*norm'`,
		Args: exactArgs("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			tensors, err := detail()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("max-error") {
				o.MaxError = &most
			}
			o.A, o.B, o.Threads, o.Env = args[0], args[1], a.threads, a.env()
			d, err := convert.Diff(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.showDifference(d, tensors)
			return d.Failed()
		},
	}
	detail = detailFlag(c)
	f := c.Flags()
	f.BoolVar(&o.Equal, "equal", false, "exit with 6 unless every value of every tensor is equal bit for bit")
	f.Float64Var(&most, "max-error", 0, "exit with 6 where a tensor's relative error is larger, or a tensor has no counterpart")
	f.StringArrayVar(&o.Ignore, "ignore", nil, "tensor or module to leave out: a name, or re:<regular expression>; may be repeated")
	f.StringArrayVar(&o.Rename, "rename", nil, "PATTERN=REPLACEMENT for names of B's tensors, a regular expression; may be repeated")
	f.BoolVar(&o.AllowRemoteCode, "allow-remote-code", false, "accept checkpoints that bring Python code")
	return c
}

// worstShown is how many tensors, keys or files are shown where not all are asked for.
const worstShown = 10

// showDifference prints the two models side by side, the tensors by kind, those that changed most, and what else differs; with all, a line
// for each tensor and everything that else is cut.
func (a *app) showDifference(d *convert.Difference, all bool) {
	a.ui.Show(ui.Result{Name: "difference", Data: d, Table: sidesTable(d)})
	a.ui.Show(ui.Result{Name: "kinds", Table: kindsTable(d.Kinds())})
	if list := d.Tensors; all {
		a.ui.Show(ui.Result{Name: "tensors", Table: tensorTable(list)})
	} else if list := d.Worst(worstShown); len(list) > 0 {
		a.ui.Show(ui.Result{Name: "worst", Table: tensorTable(list)})
	}
	most := worstShown
	if all {
		most = max(len(d.Tensors), len(d.Config), len(d.Files))
	}
	a.ui.Show(ui.Result{Name: "summary", Lines: differenceLines(d, most)})
}

func sidesTable(d *convert.Difference) *ui.Table {
	t := &ui.Table{Head: []string{"", "A", "B"}, Right: []bool{false, true, true}}
	row := func(name string, value func(s *convert.Side) string) {
		t.Rows = append(t.Rows, []string{name, value(&d.A), value(&d.B)})
	}
	row("name", func(s *convert.Side) string { return s.Name })
	row("format", func(s *convert.Side) string { return s.Format })
	row("architecture", func(s *convert.Side) string { return orDash(s.Architecture) })
	row("tensors", func(s *convert.Side) string { return strconv.Itoa(s.Tensors) })
	row("parameters", func(s *convert.Side) string { return strconv.FormatInt(s.Parameters, 10) })
	row("stored", func(s *convert.Side) string { return ui.Bytes(s.Bytes) })
	row("bits per weight", func(s *convert.Side) string { return fmt.Sprintf("%.3f", s.BitsPerWeight) })
	row("KV cache per token", func(s *convert.Side) string {
		if s.KVBytesToken == 0 {
			return orDash("")
		}
		return ui.Bytes(s.KVBytesToken)
	})
	return t
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func kindsTable(rows []convert.KindRow) *ui.Table {
	t := &ui.Table{Head: []string{"kind", "tensors", "equal", "A", "B", "stored in A", "in B", "relative error", "worst tensor"},
		Right: []bool{false, true, true, false, false, true, true, true}}
	for _, r := range rows {
		worst, name := "-", ""
		switch {
		case r.WorstTensor == "":
		case r.Worst != nil && *r.Worst == 0:
			worst = "0"
		default:
			worst, name = errorText(r.Worst), r.WorstTensor
		}
		t.Rows = append(t.Rows, []string{r.Kind, strconv.Itoa(r.Tensors), strconv.Itoa(r.Equal), orDash(r.A), orDash(r.B),
			ui.Bytes(r.BytesA), ui.Bytes(r.BytesB), worst, name})
	}
	return t
}

// errorText writes an error; one that is no finite number is of a tensor that is all 0 in A.
func errorText(v *float64) string {
	if v == nil {
		return "not finite"
	}
	return strconv.FormatFloat(*v, 'g', 3, 64)
}

func tensorTable(list []convert.TensorDifference) *ui.Table {
	t := &ui.Table{Head: []string{"tensor", "A", "B", "bits in A", "in B", "status", "changed", "values", "relative error", "largest", "cosine"},
		Right: []bool{false, false, false, true, true, false, true, true, true, true, true}}
	for _, x := range list {
		aType, aBits := storedText(x.A)
		bType, bBits := storedText(x.B)
		row := []string{x.Tensor, aType, bType, aBits, bBits, x.Status}
		switch x.Status {
		case convert.Equal, convert.Changed:
			cosine := "-"
			if x.Cosine != nil {
				cosine = strconv.FormatFloat(*x.Cosine, 'f', 6, 64)
			}
			row = append(row, strconv.FormatInt(x.Changed, 10), strconv.FormatInt(x.Values, 10), errorText(x.RelativeError), errorText(x.MaxError), cosine)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// storedText is the type, with the shape, and the bits of a weight.
func storedText(s *convert.Stored) (kind, bits string) {
	switch {
	case s == nil:
		return "-", "-"
	case s.Tied:
		return s.Type + " " + shape(s.Shape) + " tied", "-"
	}
	return s.Type + " " + shape(s.Shape), strconv.FormatFloat(s.Bits, 'f', 2, 64)
}

// differenceLines says what differs, with at most so many names of each kind.
func differenceLines(d *convert.Difference, most int) []string {
	lines := []string{verdict(d)}
	lines = append(lines, tensorLines(d, most)...)
	var keys []string
	for _, k := range d.Config {
		keys = append(keys, fmt.Sprintf("  %s: %s, %s", k.Key, jsonText(k.A), jsonText(k.B)))
	}
	lines = appendList(lines, "config.json differs in %d keys (A, B):", keys, most)
	lines = append(lines, fileLines(d, most)...)
	if p := d.AttentionPlan; p != nil {
		how := "differ"
		switch {
		case p.A == "" || p.B == "":
			how = "only one has any"
		case p.Equal:
			how = "equal"
		case p.SamePolicies:
			how = "differ in what they say of the model and of who made them, and have the same policies"
		}
		lines = append(lines, fmt.Sprintf("attention plans: %s (%s, %s)", how, orDash(short(p.A)), orDash(short(p.B))))
	}
	for _, side := range []struct {
		name string
		list []string
	}{{"A", d.A.Warnings}, {"B", d.B.Warnings}} {
		for _, w := range side.list {
			lines = append(lines, "warning: "+side.name+": "+w)
		}
	}
	return lines
}

// verdict is the outcome in a line.
func verdict(d *convert.Difference) string {
	equal, changed, other := 0, 0, 0
	var values, bits int64
	for _, t := range d.Tensors {
		values += t.Values
		bits += t.Changed
		switch t.Status {
		case convert.Equal:
			equal++
		case convert.Changed:
			changed++
		default:
			other++
		}
	}
	left := ""
	if n := len(d.Ignored); n > 0 {
		left = fmt.Sprintf("; %d left out", n)
	}
	if d.Equal {
		return fmt.Sprintf("equal: all %d values of %d tensors, bit for bit%s", values, equal, left)
	}
	line := fmt.Sprintf("%d tensors equal bit for bit, %d changed (%d of %d values)", equal, changed, bits, values)
	if other > 0 {
		line += fmt.Sprintf(", %d not comparable", other)
	}
	return line + left
}

// tensorLines lists the tensors that could not be compared, and values that are no numbers to compute with.
func tensorLines(d *convert.Difference, most int) []string {
	var onlyA, onlyB, shapes, types, odd []string
	for _, t := range d.Tensors {
		switch t.Status {
		case convert.OnlyInA:
			onlyA = append(onlyA, "  "+t.Tensor+" "+shape(t.A.Shape))
		case convert.OnlyInB:
			onlyB = append(onlyB, "  "+t.Tensor+" "+shape(t.B.Shape))
		case convert.OtherShape:
			shapes = append(shapes, fmt.Sprintf("  %s: %s, %s", t.Tensor, shape(t.A.Shape), shape(t.B.Shape)))
		case convert.OtherType:
			types = append(types, fmt.Sprintf("  %s: %s, %s", t.Tensor, t.A.Type, t.B.Type))
		}
		if n := t.NaN[0] + t.NaN[1] + t.Inf[0] + t.Inf[1]; n > 0 {
			odd = append(odd, fmt.Sprintf("  %s: %d and %d NaN, %d and %d infinite, %d of them changed", t.Tensor, t.NaN[0], t.NaN[1], t.Inf[0], t.Inf[1], t.NotFinite))
		}
	}
	lines := appendList(nil, "%d tensors only in A:", onlyA, most)
	lines = appendList(lines, "%d tensors only in B:", onlyB, most)
	lines = appendList(lines, "%d tensors of other shapes (A, B):", shapes, most)
	lines = appendList(lines, "%d tensors of integers on one side only (A, B):", types, most)
	return appendList(lines, "%d tensors with values that are not finite, in A and in B:", odd, most)
}

// fileLines says which side files are equal.
func fileLines(d *convert.Difference, most int) []string {
	equal := 0
	var list []string
	for _, f := range d.Files {
		switch {
		case f.Equal:
			equal++
		case f.B == "":
			list = append(list, "  "+f.Name+": only in A")
		case f.A == "":
			list = append(list, "  "+f.Name+": only in B")
		default:
			list = append(list, "  "+f.Name+": differs")
		}
	}
	head := fmt.Sprintf("tokenizer and other files: %d equal", equal)
	switch {
	case len(list) > 0:
		return appendList(nil, head+", %d not:", list, most)
	case equal > 0:
		return []string{head}
	}
	return nil
}

// appendList appends a heading with the number of a list and its first lines, nothing where it is empty.
func appendList(lines []string, head string, list []string, most int) []string {
	if len(list) == 0 {
		return lines
	}
	lines = append(append(lines, fmt.Sprintf(head, len(list))), list[:min(most, len(list))]...)
	if n := len(list) - most; n > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", n))
	}
	return lines
}

// jsonText is a value of config.json, cut where it is long; "-" for a key that is not there.
func jsonText(raw []byte) string {
	const most = 60
	text := []rune(string(raw))
	if len(text) > most {
		return strings.TrimSpace(string(text[:most])) + "…"
	}
	return orDash(string(text))
}
