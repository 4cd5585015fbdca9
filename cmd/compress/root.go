package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"github.com/spf13/cobra"

	"modelpress/internal/device"
	"modelpress/internal/device/choose"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

// app is one invocation of the program.
type app struct {
	stdout, stderr io.Writer
	ui             *ui.Printer
	dev            device.Device
	more           []device.Device // that share the windows with dev

	json, quiet, noColor bool
	threads              int
	maxMemory            string
	budget               int64 // bytes of maxMemory, 0 for none
	device               deviceFlags
	ending               atomic.Bool // the outcome is being reported: by the command, or by a signal that it kept waiting
	began                bool        // a command's own work began: flags and arguments were right
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "compress",
		Short: "Plan, apply and check the compression of large language models",
		Long: `compress reads a Hugging Face checkpoint, plans how to make it smaller and faster, and carries the plan out.

  compress plan --model DIR --recipe release.yaml --calib text.jsonl -o plan.json
  compress show plan.json
  compress apply plan.json --model DIR --calib text.jsonl -o OUT
  compress verify OUT`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.start()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return usageError{errors.New("no command is given; compress help lists them")}
			}
			return cmd.Help()
		},
	}
	f := c.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "one JSON event per line on stdout, and nothing else")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "results, warnings and failures only")
	f.BoolVar(&a.noColor, "no-color", false, "no colour (also by NO_COLOR)")
	f.IntVar(&a.threads, "threads", 0, "threads to compute with; 0 for all cores. Results do not depend on it")
	f.StringVar(&a.maxMemory, "max-memory", "", "memory to stay within, such as 4GiB. Results do not depend on it")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.AddCommand(a.planCmd(), a.showCmd(), a.applyCmd(), a.distillCmd(), a.convertCmd(), a.imatrixCmd(), a.diffCmd(), a.verifyCmd(), a.evalCmd(), a.inspectCmd(), a.headsCmd(), a.manifestCmd(), a.versionCmd())
	for _, sub := range c.Commands() {
		a.mark(sub)
	}
	return c
}

// mark notes when a command begins its work. Any error before that is a wrong command line, whichever check of cobra's found it.
func (a *app) mark(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.mark(sub)
	}
	work := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a.began = true
		return work(cmd, args)
	}
}

// start sets up output and device once the flags are known.
func (a *app) start() error {
	if a.threads < 0 || a.threads > 1024 {
		return usageError{fmt.Errorf("--threads %d: want 0 to 1024", a.threads)}
	}
	if a.threads == 0 {
		a.threads = runtime.GOMAXPROCS(0)
	}
	if err := a.setBudget(); err != nil {
		return err
	}
	a.dev = cpu.New(a.threads)
	a.ui = a.printer()
	return nil
}

// setBudget reads --max-memory and lets the collector work the harder the closer the heap comes to it.
func (a *app) setBudget() error {
	if a.maxMemory == "" {
		return nil
	}
	n, err := ui.ParseBytes(a.maxMemory)
	if err != nil {
		return usageError{fmt.Errorf("--max-memory: %w", err)}
	}
	a.budget = n
	debug.SetMemoryLimit(n - n/16) // what the runtime does not count: code, and pages of files
	return nil
}

// printer writes to the process's own files with colour and bars, to anything else plainly.
func (a *app) printer() *ui.Printer {
	out, isOut := a.stdout.(*os.File)
	err, isErr := a.stderr.(*os.File)
	if isOut && isErr {
		return ui.Auto(out, err, a.json, a.quiet, a.noColor)
	}
	return ui.New(ui.Options{Out: a.stdout, Err: a.stderr, JSON: a.json, Quiet: a.quiet, NoColor: true})
}

// env is what the pipeline has at its disposal.
func (a *app) env() pipeline.Env {
	return pipeline.Env{Device: a.dev, More: a.more, MaxMemory: a.budget, Progress: a.ui.Progress(), Warn: func(format string, args ...any) {
		a.ui.Show(ui.Warning{Text: fmt.Sprintf(format, args...)})
	}}
}

// report shows the error that ended the command. Usage errors of cobra itself arrive before the printer is set up.
func (a *app) report(err error, code int) {
	if a.ui == nil {
		a.ui = a.printer()
	}
	if err == nil || errors.Is(err, errChanges) {
		return
	}
	a.ui.Show(ui.Failure{Text: err.Error(), Code: code})
}

func (a *app) say(format string, args ...any) {
	a.ui.Show(ui.Note{Text: fmt.Sprintf(format, args...)})
}

// next ends a command with what it did and the exact command to run next.
func (a *app) next(did, command string) {
	a.say("%s", did)
	a.ui.Show(ui.Next{Command: command})
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the device class and the formats",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "device": a.dev.Class(), "cuda": choose.Report()}
			a.ui.Show(ui.Result{Name: "version", Data: v, Lines: []string{
				fmt.Sprintf("compress %s (%s, %s, %s)", version, v["go"], v["platform"], v["device"]), "cuda: " + v["cuda"]}})
			return nil
		},
	}
}
