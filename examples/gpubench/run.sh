#!/bin/sh
# Takes every figure of docs/GPU.md on a machine with a GPU, from the folder that build.sh made:
#
#   run.sh WORK [PART...]
#
# WORK is a folder on a fast disk with 50 GB free. The parts, in this order unless told: tests sanitize kernels logits forward profile rsq. A part that
# fails does not stop the others; the last line counts them. Results are also in WORK/*.txt.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$1
shift
[ $# -gt 0 ] || set -- tests sanitize kernels logits forward profile rsq
mkdir -p "$work"
failed=0
PATH=$here:$PATH

# part NAME runs the function of that name and notes how long it took.
part() {
	echo "== $1"
	start=$(date +%s)
	("$1") >"$work/$1.txt" 2>&1 || { failed=$((failed + 1)); echo "FAILED"; }
	tail -n "${LINES_OF_A_PART:-40}" "$work/$1.txt"
	echo "-- $1: $(($(date +%s) - start)) s"
}

# timed NAME COMMAND prints the wall time of a command.
timed() {
	name=$1
	shift
	start=$(date +%s.%N)
	"$@" >"$work/$name.log" 2>&1 || { tail -n 5 "$work/$name.log"; return 1; }
	echo "$name: $(awk "BEGIN { print $(date +%s.%N) - $start }") s"
}

model() { # the 8B shape with that many layers
	[ -d "$work/llama-$1" ] || randommodel -shape llama-3-8b -layers "$1" -context 131072 -windows 128 -length 2048 -o "$work/llama-$1" >/dev/null
}

# A path without libraries keeps the tests off the emulation.
tests() { cd "$here/cuda" && MODELPRESS_CUDA_PATH=/ cuda.test -test.v -test.timeout 5m | grep -v '^=== ' | grep -E '^(---|ok|PASS|FAIL)|FAIL'; }

sanitize() {
	cd "$here/cuda" || return 1
	for tool in memcheck racecheck synccheck initcheck; do
		echo "$tool"
		MODELPRESS_CUDA_PATH=/ compute-sanitizer --tool "$tool" --error-exitcode 9 "$here/cuda.test" -test.short -test.timeout 10m | tail -n 3 || return 1
	done
}

kernels() {
	for p in bf16 f32; do gpubench -device cuda -precision $p -only matrix,attention -lengths 2048,8192,32768; done
	gpubench -device cuda -precision bf16 -only matrix,attention -lengths 131072 -repeats 1
}

# The trained model: the same decisions and figures on CPU and GPU.
logits() {
	t=$here/tiny-llama
	data="--calib $t/data/calib.safetensors --heldout $t/data/heldout.safetensors"
	for d in "cpu f32" "cuda f32" "cuda bf16"; do
		set -- $d
		rm -rf "$work/tiny-$1-$2" "$work/tiny-$1-$2.json"
		# shellcheck disable=SC2086
		timed "tiny-plan-$1-$2" compress plan --device "$1" --precision "$2" --model "$t/model" --recipe "$t/release.yaml" $data -o "$work/tiny-$1-$2.json" || return 1
		# shellcheck disable=SC2086
		timed "tiny-apply-$1-$2" compress apply "$work/tiny-$1-$2.json" --model "$t/model" $data -o "$work/tiny-$1-$2" || return 1
		cat "$work/tiny-plan-$1-$2.log" "$work/tiny-apply-$1-$2.log"
		compress eval "$work/tiny-$1-$2" --device "$1" --precision "$2" --data "$t/data/heldout.safetensors" --reference "$t/model" || return 1
	done
	for d in cuda-f32 cuda-bf16; do
		compress diff "$work/tiny-cpu-f32" "$work/tiny-$d" | tail -n 3
	done
}

forward() {
	model 32
	gpubench -device cuda -precision bf16 -model "$work/llama-32" -only matrix,forward,stream -repeats 1
}

profile() {
	model 2
	for n in 32768 131072; do
		profilecost -device cuda -precision bf16 -model "$work/llama-2" -lengths $n -answer 1 -steps 2 -methods dense,razor,wu,duo,moa || return 1
	done
	profilecost -device cuda -precision bf16 -model "$work/llama-2" -lengths 8192,16384,65536 -answer 1 -methods dense,razor,moa
}

rsq() {
	cat >"$work/rsq.yaml" <<-EOF
		version: 1
		seed: 1
		target: [hf]
		calibration: {sequences: 128, holdout: 0, length: 2048}
		quantize: {method: rsq, bits: 4, group_size: 128}
	EOF
	for layers in 1 3 32; do
		model $layers
		m=$work/llama-$layers
		rm -rf "$work/out" "$work/out.partial" "$work/plan.json"
		timed "rsq-plan-$layers" compress plan --device cuda --precision bf16 --model "$m" --recipe "$work/rsq.yaml" --calib "$m/calib.jsonl" -o "$work/plan.json" || return 1
		timed "rsq-apply-$layers" compress apply "$work/plan.json" --model "$m" --calib "$m/calib.jsonl" -o "$work/out" || return 1
		[ "$layers" != 3 ] || python3 "$here/layer.py"
	done
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
compress version
for p in "$@"; do part "$p"; done
echo "$failed parts failed"
[ "$failed" = 0 ]
