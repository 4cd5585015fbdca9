package calib

import (
	"iter"
)

// Document is one piece of data as its author wrote it: text, or token ids made elsewhere. A document is the unit that is
// given whole to the calibration side or to the held-out side of a [Set].
type Document struct {
	Name string  // where it came from, for error messages: "file:line", a relative path, "row 3"
	Text string  // set where IDs is nil
	IDs  []int32 // token ids; nil where the document is text
	// Alone keeps windows from running across the document's ends. Rows of tokenized input are such; texts are joined
	// into one stream, as is usual for perplexity.
	Alone bool
}

// Docs yields documents in a fixed order until the first error. A consumer that has enough stops early.
type Docs = iter.Seq2[Document, error]

// Encoder turns text into token ids without adding any. [Tokenizer] is one.
type Encoder interface {
	Encode(text string) []int32
}

// RowDocs yields one document for each row of ids; windows do not cross rows. A single row is one long stream.
func RowDocs(name string, rows [][]int32) Docs {
	return func(yield func(Document, error) bool) {
		for i, r := range rows {
			if !yield(Document{Name: rowName(name, i), IDs: r, Alone: true}, nil) {
				return
			}
		}
	}
}
