package heads

import (
	"context"
	"reflect"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestThreadsDoNotMatter: every measure gives the same bits at any number of threads, and with hidden states on disk.
func TestThreadsDoNotMatter(t *testing.T) {
	p := testmodel.NewPlanted(2)
	var prompts []calib.Prompt
	for _, q := range p.Prompts(4, 90, 2, 7) {
		prompts = append(prompts, calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi})
	}
	a, err := arch.Describe(p.Config, p)
	if err != nil {
		t.Fatal(err)
	}
	measure := func(threads int, opt Options) []any {
		ctx, m := context.Background(), nn.New(deviceOf(threads), p, a)
		windows, err := teacherForced(prompts)
		if err != nil {
			t.Fatal(err)
		}
		wu, err1 := Wu(ctx, m, prompts, opt)
		mass, err2 := AttentionMass(ctx, m, prompts, opt)
		echo, induction, err3 := Razor(ctx, m, RazorOptions{Period: 20, Seed: 4, Options: opt})
		loss, err4 := StreamingLoss(ctx, m, calib.NewWindows(windows), StreamingOptions{Sink: 2, Recent: 9, Options: opt})
		for _, err := range []error{err1, err2, err3, err4} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return []any{wu, mass, echo, induction, loss}
	}
	want := measure(1, Options{})
	for _, threads := range []int{2, 3, 5} {
		if got := measure(threads, Options{}); !reflect.DeepEqual(got, want) {
			t.Errorf("%d threads: other scores", threads)
		}
	}
	if got := measure(2, Options{Dir: t.TempDir(), MemLimit: 1}); !reflect.DeepEqual(got, want) {
		t.Error("states on disk: other scores")
	}
}

// TestProgressAndCancel: progress counts every pass, and a cancelled context ends the run.
func TestProgressAndCancel(t *testing.T) {
	_, m, prompts := planted(t)
	last, calls := 0, 0
	_, err := Wu(context.Background(), m, prompts[:2], Options{Progress: func(done, total int) { last, calls = total, done }})
	if err != nil || last != calls || last == 0 {
		t.Errorf("%d of %d, %v", calls, last, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Wu(ctx, m, prompts, Options{}); err == nil {
		t.Error("a cancelled run ended well")
	}
}
