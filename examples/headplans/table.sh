#!/bin/sh
# The table of docs/RESULTS.md: attention plans of the example model by MoA and DuoAttention at three budgets. Takes some twenty minutes on two
# cores.
set -eu
cd "$(dirname "$0")/../.."
model=examples/tiny-llama/model
data=examples/tiny-llama/data
run() { go run ./examples/headplans -model $model -calib $data/calib.safetensors -heldout $data/heldout.safetensors -length 256 "$@"; }

run -methods moa -extra "sink: 4, recent: 4, moa: {lengths: [256]}"
run -methods duo -extra "sink: 4, recent: 16" -budgets 0.125
run -methods duo -extra "sink: 4, recent: 24" -budgets 0.25
run -methods duo -extra "sink: 4, recent: 60" -budgets 0.5
