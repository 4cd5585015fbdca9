package pipeline

import (
	"context"
	"path/filepath"
)

const (
	partJoint = "prune"
	jointDir  = "joint"
	maskState = "masks.state" // in the work directory
)

// jointly trains weights and masks once more, as plan did, and gives the steps that follow the weights. It must come to the cut that
// was planned.
func (a *applier) jointly(ctx context.Context) error {
	if a.joint == nil {
		return nil
	}
	err := a.trainedPart(ctx, partJoint, jointDir, a.joint, func() error {
		j := &pruneJob{s: a.s, r: a.recipe, set: a.set, env: a.o.Env, origin: []byte(a.plan.PlanID)}
		l, err := j.learn(ctx, filepath.Join(a.work, maskState))
		if err != nil {
			return err
		}
		if !sameJSON(l.cut, a.pr.Cut) {
			return errKind(KindStale, "plan again on this machine", "training weights and masks once more has led to another cut than was planned")
		}
		return a.writeTrained(ctx, jointDir, l.weights, a.s.arch)
	})
	if err != nil {
		return err
	}
	return removeIfThere(filepath.Join(a.work, maskState))
}
