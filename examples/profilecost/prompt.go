package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"

	"modelpress/calib"
	"modelpress/internal/nn"
)

// least is the shortest window that every method can be measured on.
const least = 256

// methodCalled returns the method of a name, nil where there is none.
func methodCalled(name string) *method {
	if name == answers {
		return &method{name: answers, run: findAnswers}
	}
	for i := range methods {
		if methods[i].name == name {
			return &methods[i]
		}
	}
	return nil
}

func methodNames() (names []string) {
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

func (j *job) runOptions() nn.RunOptions { return nn.RunOptions{Progress: j.how.Progress} }

// randomIDs returns n token ids below v.
func randomIDs(n, v int) []int32 {
	rng := rand.New(rand.NewPCG(uint64(n), 0x636f7374))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(v))
	}
	return ids
}

// promptOf turns the window into a prompt with an answer: the window is what the model reads. The needle stands in the middle.
func (j *job) promptOf(answer []int32) calib.Prompt {
	ids := j.window[:j.length-len(answer)+1]
	lo := len(ids) / 2
	return calib.Prompt{IDs: ids, Answer: answer, NeedleLo: lo, NeedleHi: lo + len(answer), Length: j.length, Depth: 0.5}
}

// findAnswers writes the prompt whose answer is the model's own. A pass tells what the model says after each token of a
// guess, which is the next guess: n passes make the first n tokens right. Methods count a prompt from half of its answer on.
func findAnswers(ctx context.Context, j *job) (int, string, error) {
	answer := randomIDs(j.answer, j.m.Arch.V)
	passes := len(answer)/2 + 1
	for range passes {
		var err error
		if answer, err = j.said(ctx, j.promptOf(answer)); err != nil {
			return 0, "", err
		}
	}
	f, err := os.Create(j.prompts)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	return passes, fmt.Sprintf("%d of %d tokens", passes, len(answer)), calib.WritePrompts(f, []calib.Prompt{j.promptOf(answer)})
}

// said returns the token that the model gives at each step of a prompt's answer.
func (j *job) said(ctx context.Context, p calib.Prompt) ([]int32, error) {
	steps, d, v := len(p.Answer), j.m.Arch.D, j.m.Arch.V
	out := make([]int32, steps)
	err := j.m.Run(ctx, [][]int32{p.Sequence()}, nn.RunOptions{}, func(_ int, hidden []float32) error {
		return j.m.Head(hidden[len(hidden)-steps*d:], steps, steps, func(row0, rows int, logits []float32) error {
			for r := range rows {
				row := logits[r*v : (r+1)*v]
				for id, l := range row {
					if l > row[out[row0+r]] {
						out[row0+r] = int32(id)
					}
				}
			}
			return nil
		})
	})
	return out, err
}
