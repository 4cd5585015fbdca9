package pipeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"modelpress/internal/arch"
)

// journal records which parts of an apply are finished and safe on disk: one JSON object per line, appended and synced
// after the data that it speaks of. A torn last line, left by a crash, is dropped on the next open.
//
// Peak memory: one entry per part, each with the sha256 of the tensors written, O(tensors).
type journal struct {
	f    *os.File
	done map[string]journalEntry
}

// journalEntry is one finished part.
type journalEntry struct {
	Part    string            `json:"part"`              // "plan", "prune", "kvmerge 3", "distill", "prologue", "layer 3", "epilogue"
	PlanID  string            `json:"plan_id,omitempty"` // in the first entry only
	Tensors map[string]string `json:"tensors,omitempty"` // sha256 of each tensor's data
	State   string            `json:"state,omitempty"`   // sha256 of the boundary states that the part leaves
	Maps    string            `json:"maps,omitempty"`    // sha256 of the file of a merged layer's maps
	Trained string            `json:"trained,omitempty"` // sha256 of the file of trained weights
	Notes   []tensorNote      `json:"notes,omitempty"`
}

// tensorNote is what happened to one matrix, kept for the report.
type tensorNote struct {
	Tensor      string  `json:"tensor"`
	Loss        float64 `json:"loss"`         // relative output error (Hessian norm) where a Hessian was used, else relative weight error
	Metric      string  `json:"metric"`       // "output" or "weight"
	Damp        float64 `json:"damp"`         // the damping that the factorization needed
	DeadColumns int     `json:"dead_columns"` // inputs that were always zero
	FellBack    string  `json:"fell_back,omitempty"`
	Weights     int64   `json:"weights,omitempty"` // of a matrix that was made sparse
	Zeros       int64   `json:"zeros,omitempty"`   // of them, as written

	role arch.Role // while the block is at hand
}

const journalName = "journal.jsonl"

// openJournal opens or creates the journal of a partial output and checks that it belongs to the plan.
func openJournal(dir, planID string) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pipeline: journal: %w", err)
	}
	j := &journal{f: f, done: map[string]journalEntry{}}
	if err := j.load(planID); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *journal) load(planID string) error {
	b, err := io.ReadAll(io.LimitReader(j.f, 1<<30))
	if err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	good := bytes.LastIndexByte(b, '\n') + 1
	sc := bufio.NewScanner(bytes.NewReader(b[:good]))
	sc.Buffer(nil, 1<<28)
	for sc.Scan() {
		var e journalEntry
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return damagedJournal(err)
		}
		j.done[e.Part] = e
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	if err := j.f.Truncate(int64(good)); err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	if _, err := j.f.Seek(int64(good), io.SeekStart); err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	first, ok := j.done["plan"]
	if !ok && len(j.done) > 0 {
		return damagedJournal(errors.New("it does not say for which plan it is"))
	}
	if ok {
		if first.PlanID != planID {
			return errKind(KindExists, "remove the .partial directory, or apply the plan that began it", "the partial output belongs to another plan (%s)", first.PlanID)
		}
		return nil
	}
	return j.add(journalEntry{Part: "plan", PlanID: planID})
}

func damagedJournal(err error) error {
	return errKind(KindGate, "remove the .partial directory and apply again", "the journal of the partial output is damaged: %w", err)
}

// add appends one finished part and makes it durable.
func (j *journal) add(e journalEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("pipeline: journal: %w", err)
	}
	j.done[e.Part] = e
	return nil
}

func (j *journal) close() error { return j.f.Close() }
