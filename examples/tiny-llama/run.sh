#!/bin/sh
# The main job on the example model: plan, show, apply, verify, and evaluate the result with and without its attention plan.
#
#   run.sh [COMPRESS [OUT]]
#
# COMPRESS is the built program; without it, it is built with the Go on the PATH. OUT is the directory to create, by
# default out/tiny-llama-int4 beside this script.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
compress=${1:-}
out=${2:-$here/out/tiny-llama-int4}
[ $# -ge 2 ] || rm -rf "$out" "$out.partial" # the script's own output of an earlier run

mkdir -p "$(dirname "$out")"
if [ -z "$compress" ]; then
	compress=$(dirname "$out")/compress
	(cd "$here/../.." && CGO_ENABLED=0 go build -trimpath -o "$compress" ./cmd/compress)
fi
plan=$out.plan.json
data="--calib $here/data/calib.safetensors --heldout $here/data/heldout.safetensors"

run() { printf '\n$ compress %s\n' "$*" | sed "s|$here/||g"; "$compress" "$@"; }

run plan --model "$here/model" --recipe "$here/release.yaml" $data -o "$plan"
run apply "$plan" --model "$here/model" $data -o "$out"
run verify "$out"
run eval "$out" --reference "$here/model" --data "$here/data/heldout.safetensors"
run eval "$out" --attention-plan --data "$here/data/heldout.safetensors" --recipe "$here/release.yaml"
