package pipeline

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"modelpress/formats"
	"modelpress/heads"
)

// maxState bounds the state of a step of planning that is read back.
const maxState = 64 << 20

// keeper holds the state of a long step of planning in a file, so that a plan that was interrupted is made in the rest of the time.
type keeper struct {
	path string // "" keeps nothing
}

func (e Env) keeper() keeper { return keeper{e.StateFile} }

// maskState is where the training of masks keeps what an interrupted run goes on from; "" for nowhere.
func (e Env) maskState() string {
	if e.StateFile == "" {
		return ""
	}
	return e.StateFile + ".masks"
}

// load returns what an interrupted run left, nil where there is nothing.
func (k keeper) load() ([]byte, error) {
	if k.path == "" {
		return nil, nil
	}
	if _, err := os.Stat(k.path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return readLimited(k.path, maxState)
}

func (k keeper) save(state []byte) error {
	if k.path == "" {
		return nil
	}
	return formats.WriteFileAtomic(k.path, state)
}

// done removes the file.
func (k keeper) done() error {
	if k.path == "" {
		return nil
	}
	if err := os.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// explain tells how to get rid of a state that does not belong to this run.
func (k keeper) explain(err error) error {
	if !errors.Is(err, heads.ErrState) {
		return err
	}
	return &Error{Kind: KindStale, Err: err, Hint: "remove " + filepath.Base(k.path) + " to start anew, or plan with the recipe, model and data that it is from"}
}
