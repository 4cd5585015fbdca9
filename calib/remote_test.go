package calib

import (
	"context"
	"math"
	"reflect"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/nn"
)

// No logits leave a device that takes losses, and what it says is what the host finds.
func TestLossesOnTheDevice(t *testing.T) {
	ctx, w := context.Background(), mixed()
	dev := devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(2), 1<<30)}
	ref, m := tiny(t, 1, 2), tiny(t, 2, 2)
	want, err := Compare(ctx, ref, m, w, EvalOptions{ScoreFrom: 1})
	if err != nil {
		t.Fatal(err)
	}
	remote, other := nn.New(dev, ref.Src, ref.Arch), nn.New(dev, m.Src, m.Arch)
	dev.Reset()
	got, err := Compare(ctx, remote, other, w, EvalOptions{ScoreFrom: 1})
	if err != nil {
		t.Fatal(err)
	}
	nearly := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Abs(b)+1e-9 }
	if !nearly(got.KL, want.KL) || !nearly(got.Max, want.Max) || got.Top1 != want.Top1 || !nearly(got.Ref.NLL, want.Ref.NLL) || !nearly(got.Model.NLL, want.Model.NLL) {
		t.Errorf("%+v, want %+v", got, want)
	}
	plain := devicetest.NewRemote(cpu.New(2), 1<<30)
	same, err := Compare(ctx, nn.New(plain, ref.Src, ref.Arch), nn.New(plain, m.Src, m.Arch), w, EvalOptions{ScoreFrom: 1})
	if err != nil || !reflect.DeepEqual(same, want) {
		t.Errorf("without losses on the device %+v, want %+v, %v", same, want, err)
	}
	logits := int64(0)
	for _, ids := range w.IDs {
		logits += 4 * int64(len(ids)-2) * int64(m.Arch.V)
	}
	if down := plain.Traffic().Down - dev.Traffic().Down; down != 2*logits {
		t.Errorf("%d bytes less came down, of %d for both models' logits", down, 2*logits)
	}
	// One model in both parts has one buffer for logits.
	c, err := Compare(ctx, remote, remote, w, EvalOptions{})
	if err != nil || c.KL != 0 || c.Max != 0 || c.Top1 != 1 {
		t.Error(c, err)
	}
	remote.Release()
	other.Release()
	if used := dev.Traffic().Used; used != 0 {
		t.Errorf("%d bytes of the device stay in use", used)
	}
}
