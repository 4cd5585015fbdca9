package pipeline

import (
	"context"

	"modelpress/heads"
)

// keyChannels leaves out the key channels that scores hardly need.
func (j *headJob) keyChannels(ctx context.Context) error {
	drop := j.r.Heads.KeyChannels
	if drop == 0 {
		return nil
	}
	how, stop := j.options("measuring key channels")
	defer stop()
	k, err := heads.FindLeanK(ctx, j.m, j.set.set.Calib, heads.LeanKOptions{Keep: 1 - drop, Options: how})
	if err != nil {
		return err
	}
	return k.Write(j.plan, j.m.Arch, heads.Record{Seed: j.r.Seed, Digest: j.set.set.Calib.Digest})
}

// prefill plans sparse attention over the prompt.
func (j *headJob) prefill(ctx context.Context) error {
	if j.r.Heads.Prefill == nil {
		return nil
	}
	panic("todo")
}

func (j *headJob) static(ctx context.Context) error { panic("todo") }
