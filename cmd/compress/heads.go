package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

// phases are the values of --phase.
var phases = map[string]manifest.Phase{"decode": manifest.Decoding, "prefill": manifest.Prefill}

func (a *app) headsCmd() *cobra.Command {
	var svg, phase string
	var length int
	var view ui.HeadMapView
	c := &cobra.Command{
		Use:   "heads DIR|FILE",
		Short: "Draw an attention plan: what each KV head of each layer keeps",
		Long: `heads draws an attention plan as a table of layers and KV heads, with what each head keeps at a length, and the size of
the cache. It takes a directory that holds attention_plan.json, such a document, or a plan that compress plan made.

Signs: full █, streaming ·, elastic ▁ to ▇ by the share of the tokens kept, other kinds a letter.`,
		Example: `  compress heads plan.json
  compress heads llama-int4
  compress heads llama-int4 --length 16384 --svg heads.svg`,
		Args: exactArgs("DIR|FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, ok := phases[phase]
			if !ok {
				return usageError{fmt.Errorf("--phase %q: known are decode, prefill", phase)}
			}
			if cmd.Flags().Changed("length") && (length < 1 || length > ui.MaxMapLength) {
				return usageError{fmt.Errorf("--length %d: want 1 to %d", length, ui.MaxMapLength)}
			}
			if svg != "" {
				if err := checkFile(svg); err != nil {
					return err
				}
			}
			plan, err := readAttentionPlan(args[0])
			if err != nil {
				return err
			}
			if length == 0 {
				length = min(plan.Model.MaxPosition, ui.MaxMapLength)
			}
			m, err := ui.NewHeadMap(plan, at, length)
			if err != nil {
				return formats.Errorf(args[0], "", "%w", err)
			}
			a.ui.Show(ui.Result{Name: "heads", Data: m, Map: m, MapView: view})
			if svg == "" {
				return nil
			}
			if err := formats.WriteFileAtomic(svg, m.SVG()); err != nil {
				return err
			}
			a.say("Saved %s.", svg)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&svg, "svg", "", "also write the map as an SVG file")
	f.IntVar(&length, "length", 0, "tokens of the sequence; by default the model's context")
	f.StringVar(&phase, "phase", "decode", "phase whose policies are drawn: decode or prefill")
	f.BoolVar(&view.ASCII, "ascii", false, "draw with ASCII characters only")
	f.BoolVar(&view.Scores, "scores", false, "show each head's score")
	return c
}

// planSources are the documents that hold an attention plan, by the field of theirs that tells them apart and the start of its value.
var planSources = []struct {
	field, prefix string
	read          func(doc []byte) (*manifest.Plan, error)
}{
	{"schema", "attention-plan/", manifest.Decode},
	{"format", "compress-plan/", func(doc []byte) (*manifest.Plan, error) {
		p, err := planfile.Decode(doc)
		if err != nil {
			return nil, err
		}
		return pipeline.PlannedHeads(p)
	}},
}

// readAttentionPlan reads the attention plan of a directory, or the one that a file holds.
func readAttentionPlan(path string) (*manifest.Plan, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, formats.Errorf(path, "", "%w", err)
	}
	if fi.IsDir() {
		path = filepath.Join(path, manifest.FileName)
	}
	doc, err := readAtMost(path, max(manifest.MaxBytes, planfile.MaxBytes))
	if err != nil {
		return nil, formats.Errorf(path, "", "%w", err)
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(doc, &head); err != nil {
		return nil, formats.Errorf(path, "", "is no attention plan: %w", err)
	}
	for _, s := range planSources {
		var value string
		if json.Unmarshal(head[s.field], &value) != nil || !strings.HasPrefix(value, s.prefix) {
			continue
		}
		plan, err := s.read(doc)
		if err != nil {
			return nil, formats.Errorf(path, "", "%w", err)
		}
		return plan, nil
	}
	return nil, formats.Errorf(path, "", "is no attention plan")
}

// readAtMost reads a file of at most so many bytes.
func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(doc)) > most {
		err = fmt.Errorf("is larger than %d bytes", most)
	}
	return doc, err
}
