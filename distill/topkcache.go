package distill

import (
	"context"
	"errors"
	"fmt"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// TopKOptions say how a teacher's predictions are written.
type TopKOptions struct {
	K           int     // outcomes of a token besides the rest
	Temperature float64 // 0 means 1
	Half        bool    // logarithms in F16
	Run         [32]byte
	Dir         string // where states go once they pass MemLimit
	MemLimit    int64  // bytes of states kept in memory; 0 for no limit
	Progress    func(done, total int)
}

// CacheTopK runs a teacher over windows and writes what it predicts for each of their tokens, in order, to a file that
// [OpenTopK] reads: training then needs no teacher. An unfinished file is removed.
//
// Memory: a block of the teacher, 4*D bytes of state for each token of all windows, beyond MemLimit on disk, and 4*R*V bytes of logits
// for R = 128 to 1024 rows.
func CacheTopK(ctx context.Context, path string, teacher *nn.Model, w calib.Windows, opt TopKOptions) error {
	if opt.Temperature == 0 {
		opt.Temperature = 1
	}
	h := TopKHeader{Vocab: teacher.Arch.V, K: opt.K, Tokens: int64(w.Tokens()), Temperature: opt.Temperature, Half: opt.Half, Run: opt.Run}
	out, err := CreateTopK(path, h)
	if err != nil {
		return err
	}
	err = cacheTopK(ctx, out, teacher, w, opt)
	if err != nil {
		out.Abort()
		return fmt.Errorf("distill: predictions of the teacher: %w", err)
	}
	return out.Close()
}

func cacheTopK(ctx context.Context, out *TopKWriter, teacher *nn.Model, w calib.Windows, opt TopKOptions) error {
	states, err := nn.NewStates(opt.Dir, lengths(w.IDs), teacher.Arch.D, opt.MemLimit)
	if err != nil {
		return err
	}
	var top TopK
	v := teacher.Arch.V
	final := func(i int, x device.Buf) error {
		return teacher.HeadLogitsBuf(x, len(w.IDs[i]), headRows(v), func(_ int, l *nn.Logits) error {
			if err := top.SelectLogits(l, v, opt.K, opt.Temperature, teacher.Dev); err != nil {
				return err
			}
			return out.Write(&top)
		})
	}
	err = teacher.Run(ctx, w.IDs, nn.RunOptions{States: states, Final: final, Progress: opt.Progress}, nil)
	return errors.Join(err, states.Close())
}
