package pipeline

import (
	"strings"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// The files of a result besides shards and side files.
const (
	configName   = "config.json"
	planName     = "plan.json"
	reportName   = "report.json"
	indexName    = "model.safetensors.index.json"
	manifestName = manifest.FileName

	partialSuffix = ".partial" // the directory that a result grows in
	workDir       = "work"     // in it: lock, journal, boundary states
	lockName      = "lock"
)

// headModule stays unquantized unless a recipe says otherwise, and runtimes expect it in the list of what is.
const headModule = arch.HeadModule

// skippedSide reports whether a side file stays behind: the source's model card does not describe the result.
func skippedSide(name string) bool { return strings.EqualFold(name, "README.md") }
