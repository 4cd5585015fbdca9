package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/testmodel"
)

// remoteRecipes reach every step, and most of what it may be told to do.
func remoteRecipes() []struct {
	name, recipe string
	model        testmodel.Options
} {
	const data = "seed: 3\ncalibration: {sequences: 4, holdout: 2, length: 32}\n"
	swa, gpt := testmodel.Named("mistral-swa").Options, testmodel.Named("gpt2").Options
	half := smallLlama
	half.DType = formats.BF16
	return []struct {
		name, recipe string
		model        testmodel.Options
	}{
		{"gptq", data + "quantize: {method: gptq, bits: 8, group_size: 32, rotate: hadamard}", half},
		{"rsq", data + "quantize: {method: gptq, group_size: 32, importance: {min: 0.01, max: 1}}", half},
		{"sparse", data + "sparsify: {pattern: '2:4'}\ngates: {kl: 100}", swa},
		{"wanda", data + "sparsify: {method: wanda, pattern: '2:4'}", gpt},
		{"merge", data + "kvmerge: {kv_heads: 2}\nquantize: {method: gptq, bits: 8, group_size: 32}", mergeOptions(formats.F32)},
		{"minitron", data + "prune: {method: minitron, params: 0.6, axes: [layers, ffn], rounds: 2, depth: perplexity, multiple: 4}", deep("llama-mha", 4, formats.F32).Options},
		{"taylor", data + "prune: {method: taylor, flops: 0.7, length: 128, multiple: 4}", deep("mistral-swa", 3, formats.F32).Options},
		{"vib", data + "prune: {method: vib, params: 0.7, multiple: 4, axes: [heads, ffn], vib: {steps: 4, batch: 2}}", testmodel.Named("llama-gqa").Options},
		{"distill", distillData + "prune: {method: minitron, params: 0.8, axes: [ffn], multiple: 4}\ndistill: {steps: 4, batch: 4, warmup: 0, hidden: {}, relations: {version: 2}}", smallLlama},
		{"lora", data + "prune: {method: random, flops: 0.7, layout: compact, multiple: 4}\ndistill: {steps: 3, batch: 2, warmup: 0, lora: {rank: 2}}", gpt},
		{"heads", data + "heads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8, key_channels: 0.25, prefill: {method: minference, density: 0.5, min_length: 8}}\ngates: {plan_kl: 100}", smallLlama},
		{"spans", data + "heads: {method: induction, full_share: 0.5, sink: 2, recent: 8, prefill: {method: xattention, threshold: 0.9, block: 8, min_length: 8}}", swa},
	}
}

// planAndApply runs a recipe on a device, or on several, and returns the plan as it is written, and the directory of the result.
func planAndApply(t *testing.T, b *bench, dev device.Device, out string, more ...device.Device) ([]byte, string) {
	t.Helper()
	plan, dir, err := tryPlanAndApply(b, dev, out, more...)
	b.check(err)
	return plan, dir
}

func tryPlanAndApply(b *bench, dev device.Device, out string, more ...device.Device) ([]byte, string, error) {
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	r.Target = []string{}
	env := Env{Device: dev, More: more, Progress: &quiet{}, Warn: func(string, ...any) {}}
	p, err := Plan(context.Background(), PlanOptions{ModelDir: b.src, Recipe: r, RecipeDigest: sumDigest([]byte(b.recipe)),
		Data: b.paths(), Tool: planfile.Tool{Name: "test", Version: "0"}, Env: env})
	if err != nil {
		return nil, "", err
	}
	o := b.options(p, out)
	o.Env = env
	_, err = Apply(context.Background(), o)
	return o.PlanBytes, o.Out, err
}

// TestRemoteDevice: every recipe gives the same plan and the same files on a device whose memory the host cannot address, with room for
// everything and with little.
func TestRemoteDevice(t *testing.T) {
	for _, c := range remoteRecipes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testmodel.New(c.model), c.recipe)
			plan, dir := planAndApply(t, b, cpu.New(2), "here")
			dev := devicetest.NewRemote(cpu.New(2), 1<<32)
			got, there := planAndApply(t, b, dev, "there")
			if !bytes.Equal(plan, got) {
				t.Errorf("another plan:\n%s\nwant\n%s", got, plan)
			}
			b.sameDirs(dir, there)
			traffic := dev.Traffic()
			if traffic.Used != 0 {
				t.Errorf("%d bytes are left on the device", traffic.Used)
			}
			for part := traffic.Peak; part > traffic.Peak/4; part = part * 7 / 8 {
				if testing.Short() { // under the race detector: some room less, once
					part = part * 19 / 20
				}
				got, there, err := tryPlanAndApply(b, devicetest.NewRemote(cpu.New(2), part), fmt.Sprint(part))
				if err != nil {
					if KindOf(err) != KindResource || !errors.Is(err, device.ErrMemory) || part > traffic.Peak*9/10 {
						t.Errorf("with %d bytes of %d: kind %d, %v", part, traffic.Peak, KindOf(err), err)
					}
					t.Logf("too little: %d of %d", part, traffic.Peak)
					break
				}
				if !bytes.Equal(plan, got) {
					t.Errorf("another plan with %d bytes of %d", part, traffic.Peak)
				}
				b.sameDirs(dir, there)
				if testing.Short() {
					break
				}
			}
			t.Logf("%+v", traffic)
		})
	}
}

// TestDeviceFaults: where the device fails or has too little memory, at whatever moment, plan and apply end with an error of its class,
// and apply goes on from there; another panic is nobody's business.
func TestDeviceFaults(t *testing.T) {
	for _, c := range remoteRecipes()[:2] {
		b := newBench(t, testmodel.New(c.model), c.recipe)
		_, whole := planAndApply(t, b, cpu.New(2), "whole")
		dev := devicetest.NewRemote(cpu.New(2), 1<<32)
		var count atomic.Int64
		dev.Fail = func(string) error { count.Add(1); return nil }
		plan, _ := planAndApply(t, b, dev, "counted")
		calls := int(count.Load())
		p, err := planfile.Decode(plan)
		b.check(err)
		o := b.options(p, "failing")
		o.Env.Device = dev
		failures := 0
		for n := 1; n < calls; n += 1 + calls/7 {
			count.Store(int64(n))
			lost := errors.New("the device is lost")
			dev.Fail = func(op string) error {
				if count.Add(-1) < 0 && op != "Alloc" {
					return lost
				}
				return nil
			}
			_, err := Apply(context.Background(), o)
			if err == nil {
				break
			}
			var fault *device.Fault
			if KindOf(err) != KindResource || !errors.Is(err, lost) || !errors.As(err, &fault) || !strings.Contains(err.Error(), "--device cpu") {
				t.Fatalf("after %d operations: kind %d, %v", n, KindOf(err), err)
			}
			failures++
		}
		if failures < 3 {
			t.Errorf("%d failures", failures)
		}
		dev.Fail = nil
		_, err = Apply(context.Background(), o)
		b.check(err)
		b.sameDirs(whole, o.Out)

		small := b.options(p, "small")
		small.Env.Device = devicetest.NewRemote(cpu.New(2), 20000)
		if _, err := Apply(context.Background(), small); KindOf(err) != KindResource || !errors.Is(err, device.ErrMemory) || !strings.Contains(err.Error(), "--max-device-memory") {
			t.Errorf("kind %d, %v", KindOf(err), err)
		}
		dev = devicetest.NewRemote(cpu.New(2), 1<<32)
		dev.Fail = func(string) error { panic("a bug") }
		small.Env.Device = dev
		func() {
			defer func() {
				if p := recover(); p != "a bug" {
					t.Errorf("recovered %v", p)
				}
			}()
			_, err := Apply(context.Background(), small)
			t.Errorf("no panic, but %v", err)
		}()
	}
}

// TestSeveralDevices: devices that share the windows give the same files whether they have memories of their own or not, and however a run
// was interrupted; without sums over windows these are the files of one device.
func TestSeveralDevices(t *testing.T) {
	remote := func() device.Device { return devicetest.NewRemote(cpu.New(2), 1<<32) }
	for _, c := range remoteRecipes()[:5] {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testmodel.New(c.model), c.recipe)
			plan, two := planAndApply(t, b, cpu.New(1), "two", cpu.New(2))
			if !strings.Contains(string(plan), `-x2"`) {
				t.Error("the plan does not say for how many devices it is")
			}
			first, second := devicetest.NewRemote(cpu.New(2), 1<<32), devicetest.NewRemote(cpu.New(1), 1<<32)
			got, there := planAndApply(t, b, first, "there", second)
			if !bytes.Equal(got, plan) {
				t.Error("another plan")
			}
			b.sameDirs(two, there)
			for i, d := range []*devicetest.Remote{first, second} {
				if traffic := d.Traffic(); traffic.Used != 0 || traffic.Up == 0 {
					t.Errorf("device %d: %+v", i, traffic)
				}
			}
			p, err := planfile.Decode(plan)
			b.check(err)
			o := b.options(p, "resumed")
			o.Env.Device, o.Env.More = remote(), []device.Device{remote()}
			b.interrupted(o, 2)
			b.interrupted(o, 3)
			_, err = Apply(context.Background(), o)
			b.check(err)
			b.sameDirs(two, o.Out)
			o = b.options(p, "alone")
			if _, err := Apply(context.Background(), o); KindOf(err) != KindStale {
				t.Errorf("a plan for two devices goes to one: %v", err)
			}
			if _, err := os.Stat(two); err != nil {
				t.Error(err)
			}
			_, three := planAndApply(t, b, cpu.New(2), "three", remote(), cpu.New(1))
			if d := b.logitError(two, three); d > 0.2 {
				t.Errorf("three devices: logits differ by %g", d)
			}
		})
	}
	b := newBench(t, testmodel.New(smallLlama), "calibration: {sequences: 4, holdout: 2, length: 32}\nquantize: {method: rtn, group_size: 32}\ngates: {kl: 100}")
	_, one := planAndApply(t, b, cpu.New(2), "one")
	_, two := planAndApply(t, b, remote(), "two", remote())
	for _, name := range []string{"model.safetensors"} {
		x, err := os.ReadFile(filepath.Join(one, name))
		b.check(err)
		y, err := os.ReadFile(filepath.Join(two, name))
		b.check(err)
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs", name)
		}
	}
}

// TestRemoteMeasures: what evaluations measure is the same on a device with its own memory, and on several; sums of squares for an
// importance matrix are taken there, and differ by no more than the order of sums in float64.
func TestRemoteMeasures(t *testing.T) {
	o := smallLlama
	o.Context = 64
	m, opt := measureModel(t, o, testmodel.Windows(5, 40, o.V, 4))
	opt.Length = 40
	dir := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.Mkdir(dir, 0o755), like(7).Write(dir, 0)); err != nil {
		t.Fatal(err)
	}
	opt.Reference = dir
	evaluate := func(dev device.Device, more ...device.Device) *Evaluation {
		t.Helper()
		opt.Env.Device, opt.Env.More = dev, more
		e, err := Evaluate(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	want := evaluate(cpu.New(2))
	devs := []*devicetest.Remote{devicetest.NewRemote(cpu.New(2), 1<<32), devicetest.NewRemote(cpu.New(1), 1<<32)}
	for _, got := range []*Evaluation{evaluate(devs[0]), evaluate(devs[0], devs[1]), evaluate(devs[1], devs[0], cpu.New(1)), evaluate(cpu.New(1), cpu.New(1))} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got.Compare, want.Compare)
		}
	}
	opt.Env.Device, opt.Env.More = cpu.New(2), nil
	sums := measured(t, opt, true)
	devs[0].Reset()
	opt.Env.Device = devs[0]
	got := measured(t, opt, true)
	for i, e := range sums.Entries {
		for j, v := range e.Sums {
			if d := math.Abs(float64(got.Entries[i].Sums[j] - v)); got.Entries[i].Tensor != e.Tensor || d > 1e-6*float64(v) {
				t.Fatalf("%s: input %d has %g, want %g", e.Tensor, j, got.Entries[i].Sums[j], v)
			}
		}
	}
	// The final states and their norm alone come to the host, once each.
	if most := int64(2 * 4 * 5 * 40 * m.Options.D); devs[0].Traffic().Down > most {
		t.Errorf("%d bytes came down, want at most %d", devs[0].Traffic().Down, most)
	}
	for i, d := range devs {
		if used := d.Traffic().Used; used != 0 {
			t.Errorf("device %d: %d bytes are left", i, used)
		}
	}
}
