package manifest

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Bounds of what is read from other formats.
const (
	// MaxImportBytes is the largest file that an importer reads. Numbers take at most some eight times their text in memory.
	MaxImportBytes = 32 << 20
	// maxExchange bounds the query heads of a model that is exported or imported.
	maxExchange = 1 << 20
)

// What keeps a plan and another format apart.
var (
	// ErrLossy: the conversion would lose something, and was not allowed to.
	ErrLossy = errors.New("the conversion would lose something")
	// ErrUnfit: the format cannot hold the plan in any form.
	ErrUnfit = errors.New("the format cannot hold this plan")
	// ErrFile: an imported file is not what the format says.
	ErrFile = errors.New("malformed file")
	// ErrShape: an imported file is for a model of other layers or heads.
	ErrShape = errors.New("the file is for a model of another shape")
)

// File is one file of another format. Name has no directory.
type File struct {
	Name string
	Data []byte
}

// Loss is something that a conversion leaves out or changes.
type Loss struct {
	What string `json:"what"`
	// Bytes of KV cache that one sequence of Options.Length tokens takes more after it; 0 where size is not the matter.
	Bytes int64 `json:"kv_bytes,omitempty"`
}

// Options of a conversion. The zero value refuses losses and takes the sizes that a format says.
type Options struct {
	Lossy        bool
	Length       int // tokens at which lost savings are counted; 0 for the model's context, at most 131072
	ElementBytes int // of a stored key or value element; 0 for 2

	// Sparsity is the share of KV heads that stream, for imports of scores; nil for what the format's readers take.
	Sparsity *float64
	// Sink and Recent are the sizes of imported streaming heads where Recent > 0; otherwise the file's, or those of its readers.
	Sink, Recent int
	// Stride chooses among the tables of a file that has one for each stride; 0 for its only one, or 16.
	Stride int
}

// Exported is a plan in another format.
type Exported struct {
	Files  []File
	Losses []Loss   // none unless Options.Lossy
	Notes  []string // what the reader of the format has to be told, such as its flags
}

// Imported is a plan read from another format. Its quality is nil: nothing was measured with its sizes.
type Imported struct {
	Plan   *Plan
	Losses []Loss // what the file says and the plan does not
	Notes  []string
}

// Format is another way to write a policy for each head or layer.
type Format struct {
	Name      string
	Readers   string // programs
	Files     string
	Dir       bool   // more than one file
	Condition string // under which an export loses nothing

	write func(*export) error
	read  func(*reader) error
}

// formats in the order of docs/MANIFEST.md.
var formats = []*Format{
	duoFormat, omniserveFormat, omniFormat, goldenStickFormat, rtpFormat, moaFormat, minferenceFormat, dualChunkFormat,
	xattentionFormat, retrievalFormat, blockSparseFormat, layerTypesFormat, tensorrtFormat, ggufFormat,
}

// Formats returns every format.
func Formats() []*Format { return append([]*Format{}, formats...) }

// FormatByName returns a format, nil where there is none of that name.
func FormatByName(name string) *Format {
	for _, f := range formats {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// LossError lists what an export would lose. It wraps ErrLossy.
type LossError struct {
	Format string
	Losses []Loss
}

func (e *LossError) Error() string {
	list := make([]string, len(e.Losses))
	for i, l := range e.Losses {
		list[i] = l.What
	}
	return fmt.Sprintf("manifest: %s: %v: %s", e.Format, ErrLossy, strings.Join(list, "; "))
}

// Unwrap returns ErrLossy.
func (e *LossError) Unwrap() error { return ErrLossy }

// ImportError is a fault of an imported file. It wraps ErrFile or ErrShape.
type ImportError struct {
	Format, File string
	Err          error
}

func (e *ImportError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("manifest: %s: %v", e.Format, e.Err)
	}
	return fmt.Sprintf("manifest: %s (%s): %v", e.Format, e.File, e.Err)
}

// Unwrap returns the cause.
func (e *ImportError) Unwrap() error { return e.Err }

// Export writes a plan in this format. Records (selection, budget, quality, digests) are in no other format and count as no
// loss. Errors are a *FaultsError for a plan with faults, a *LossError where something would be lost and o.Lossy is false, and
// otherwise wrap ErrUnfit.
//
// Memory: some 100 bytes for each query head of the model, beside the files.
func (f *Format) Export(p *Plan, o Options) (*Exported, error) {
	if faults := p.Validate(); len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	x, err := newExport(f.Name, p, o)
	if err != nil {
		return nil, err
	}
	if err := f.write(x); err != nil {
		return nil, err
	}
	losses := x.losses()
	if len(losses) > 0 && !o.Lossy {
		return nil, &LossError{f.Name, losses}
	}
	return &Exported{Files: x.files, Losses: losses, Notes: x.notes}, nil
}

// Import reads files of this format as a plan for a model. The model is given as a plan over it, such as New returns, whose layers
// state head counts of their own; its policies are not looked at. Errors are an *ImportError for a fault of the files, and a
// *FaultsError where the plan that comes out has faults, as it has for a model that has.
func (f *Format) Import(files []File, model *Plan, o Options) (*Imported, error) {
	r, err := newReader(f.Name, files, model, o)
	if err != nil {
		return nil, err
	}
	if err := f.read(r); err != nil {
		return nil, err
	}
	r.p.Requires = r.p.Needs()
	if faults := r.p.Validate(); len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	return &Imported{Plan: r.p, Losses: r.losses(), Notes: r.notes}, nil
}

// ledger collects losses: those that concern heads by what is lost, with the first of them by name.
type ledger struct {
	list  []Loss
	order []string
	heads map[string][]string // by what is lost
	more  map[string]int
	last  string
	notes []string
}

func (g *ledger) lose(format string, args ...any) {
	g.list = append(g.list, Loss{What: fmt.Sprintf(format, args...)})
}

func (g *ledger) note(format string, args ...any) {
	g.notes = append(g.notes, fmt.Sprintf(format, args...))
}

// loseAt records that a head of a layer loses something; head -1 stands for the whole layer.
func (g *ledger) loseAt(layer, head int, format string, args ...any) {
	const named = 4
	what := fmt.Sprintf(format, args...)
	if g.heads == nil {
		g.heads, g.more = map[string][]string{}, map[string]int{}
	}
	if g.heads[what] == nil {
		g.order = append(g.order, what)
	}
	at := fmt.Sprintf("layer %d", layer)
	if head >= 0 {
		at += fmt.Sprintf(" head %d", head)
	}
	if g.last == what+at { // another query head of the same KV head
		return
	}
	g.last = what + at
	if len(g.heads[what]) == named {
		g.more[what]++
		return
	}
	g.heads[what] = append(g.heads[what], at)
}

func (g *ledger) losses() []Loss {
	out := append([]Loss{}, g.list...)
	for _, what := range g.order {
		at := strings.Join(g.heads[what], ", ")
		if n := g.more[what]; n > 0 {
			at += fmt.Sprintf(" and %d more", n)
		}
		out = append(out, Loss{What: fmt.Sprintf("%s (%s)", what, at)})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Bytes > out[j].Bytes })
	return out
}

// length returns the tokens at which lost savings are counted.
func (o *Options) length(m *Model) int {
	if o.Length > 0 {
		return min(o.Length, maxTokens)
	}
	return min(m.MaxPosition, 1<<17)
}

// rowBytes returns the bytes of one key and one value.
func (o *Options) rowBytes(m *Model) int64 {
	element := o.ElementBytes
	if element <= 0 {
		element = 2
	}
	return 2 * int64(m.HeadDim) * int64(element)
}
