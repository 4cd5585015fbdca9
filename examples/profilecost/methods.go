package main

import (
	"context"
	"fmt"
	"time"

	"modelpress/heads"
)

// method is one measure: run returns how often the window went through the model and what else was counted.
type method struct {
	name   string
	prompt bool // reads the prompt with its answer
	run    func(ctx context.Context, j *job) (passes int, note string, err error)
}

// answers is the pass that makes the prompt.
const answers = "answers"

// sampleBlocks is how many blocks of queries a search for patterns looks at, as in compress.
const sampleBlocks = 16

// methods are in the order of their lines; the first is what the others are compared with.
var methods = []method{
	{"dense", false, func(ctx context.Context, j *job) (int, string, error) {
		return 1, "forward pass, no output head", j.m.Run(ctx, j.windows.IDs, j.runOptions(), nil)
	}},
	{"wu", true, func(ctx context.Context, j *job) (int, string, error) {
		s, err := heads.Wu(ctx, j.m, j.ask, j.how)
		return answered(s, err)
	}},
	{"headkv", true, func(ctx context.Context, j *job) (int, string, error) {
		s, err := heads.HeadKV(ctx, j.m, j.ask, j.how)
		return answered(s, err)
	}},
	{"mass", true, func(ctx context.Context, j *job) (int, string, error) {
		_, err := heads.AttentionMass(ctx, j.m, j.ask, j.how)
		return 1, "copy, needle, sink and local", err
	}},
	{"razor", false, func(ctx context.Context, j *job) (int, string, error) {
		period := j.length / 4
		_, _, err := heads.Razor(ctx, j.m, heads.RazorOptions{Period: period, Repeats: 4, Options: j.how})
		return 1, fmt.Sprintf("echo and induction, 4 times %d tokens", period), err
	}},
	{"streaming", false, func(ctx context.Context, j *job) (int, string, error) {
		opt := j.streaming()
		_, err := heads.StreamingLoss(ctx, j.m, j.windows, opt)
		return 1, streams(opt), err
	}},
	{"sinks", false, func(ctx context.Context, j *job) (int, string, error) {
		_, err := heads.FindSinks(ctx, j.m, j.windows, heads.SinkOptions{Options: j.how})
		return 1, "every position", err
	}},
	{"act-sinks", false, func(ctx context.Context, j *job) (int, string, error) {
		_, err := heads.SinkMass(ctx, j.m, j.windows, heads.ACTOptions{Options: j.how})
		return 1, "sink mass; without the evaluation of each head", err
	}},
	{"tidal", false, func(ctx context.Context, j *job) (int, string, error) {
		opt := heads.TidalOptions{Budget: j.upTo(256), Window: j.upTo(256) / 8, Options: j.how}
		_, err := heads.FindTidal(ctx, j.m, j.windows, opt)
		return 1, fmt.Sprintf("%d keys, last 64 queries", opt.Budget), err
	}},
	{"leank", false, func(ctx context.Context, j *job) (int, string, error) {
		_, err := heads.FindLeanK(ctx, j.m, j.windows, heads.LeanKOptions{Options: j.how})
		return 2, "no exchanges", err
	}},
	{"echoatt", false, func(ctx context.Context, j *job) (int, string, error) {
		_, err := heads.FindEchoAtt(ctx, j.m, j.windows, heads.EchoAttOptions{Options: j.how})
		return 1, "every pair of neighbouring layers", err
	}},
	{"minference", false, minference},
	{"xattention", false, xattention},
	{"static", false, static},
	{"moa", false, func(ctx context.Context, j *job) (int, string, error) {
		in := heads.ProfileInput{Length: j.length, Samples: heads.WindowSamples(j.windows.IDs, j.length/2)}
		_, err := heads.MoAProfile(ctx, j.m, []heads.ProfileInput{in}, heads.ProfileOptions{Sink: 64, Options: j.how})
		return 1, fmt.Sprintf("forward and backward, %d labels of the model's own", j.length/2), err
	}},
	{"duo-probe", true, func(ctx context.Context, j *job) (int, string, error) {
		opt := j.streaming()
		_, err := heads.DuoProbe(ctx, j.m, j.ask, opt)
		return 1, "forward and backward, " + streams(opt), err
	}},
	{"duo", true, duo},
}

func answered(s *heads.Scores, err error) (int, string, error) {
	if err != nil {
		return 0, "", err
	}
	return 1, fmt.Sprintf("%d prompt that counts", s.Samples), nil
}

// upTo is n where the window leaves room for more, else a quarter of the window.
func (j *job) upTo(n int) int { return min(n, j.length/4) }

// streaming is the mask that DuoAttention trains with.
func (j *job) streaming() heads.StreamingOptions {
	return heads.StreamingOptions{Sink: j.upTo(128), Recent: j.upTo(256), Options: j.how}
}

func streams(o heads.StreamingOptions) string {
	return fmt.Sprintf("%d sinks and %d recent tokens", o.Sink, o.Recent)
}

func static(ctx context.Context, j *job) (int, string, error) {
	_, err := heads.Static(ctx, j.m, j.windows, heads.Draft(j.m.Arch), heads.StaticOptions{Density: 0.5, Sink: 4, Prefill: true,
		Block: min(64, j.length/16), SampleBlocks: sampleBlocks, Options: j.how})
	return 1, fmt.Sprintf("5 patterns on %d blocks of queries", sampleBlocks), err
}

func minference(ctx context.Context, j *job) (int, string, error) {
	p, err := heads.MInference(ctx, j.m, j.windows, heads.Draft(j.m.Arch), heads.MInferenceOptions{Sink: 4,
		Recent: heads.WindowOfDensity(j.length, 0.5), Block: j.upTo(64), From: j.length / 2, SampleBlocks: sampleBlocks, Options: j.how})
	if err != nil {
		return 0, "", err
	}
	kinds := map[string]bool{}
	for _, row := range p.Policy {
		for _, pol := range row {
			kinds[pol.Kind] = true
		}
	}
	return 1, fmt.Sprintf("6 patterns on %d blocks of queries, %d kinds chosen", sampleBlocks, len(kinds)), nil
}

func xattention(ctx context.Context, j *job) (int, string, error) {
	_, err := heads.XAttention(ctx, j.m, j.windows, heads.Draft(j.m.Arch), heads.XAttentionOptions{Block: j.upTo(128),
		Stride: j.upTo(128) / 8, Share: 0.9, SampleBlocks: sampleBlocks, Options: j.how})
	return 1, fmt.Sprintf("11 thresholds on %d blocks of queries", sampleBlocks), err
}

// duo takes a few steps and reckons what all would take from those after the first.
func duo(ctx context.Context, j *job) (int, string, error) {
	var at []time.Time
	opt := heads.DuoOptions{Sink: j.upTo(128), Recent: j.upTo(256), Steps: j.steps, Options: j.how}
	opt.Progress = func(int, int) { at = append(at, time.Now()) }
	if _, _, err := heads.Duo(ctx, j.m, j.ask, opt); err != nil {
		return 0, "", err
	}
	step := at[len(at)-1].Sub(at[0]).Seconds() / float64(len(at)-1)
	return 1 + j.steps, fmt.Sprintf("teacher and %d steps; %.1f s a step, ~%.1f h for %d", j.steps, step, step*float64(j.all)/3600, j.all), nil
}
