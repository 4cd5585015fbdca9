#!/bin/sh
# Times plan and apply (RSQ to 4 bits in groups of 64, 64 windows of 512 tokens) on a random Llama of 135 million parameters:
#
#   endtoend.sh COMPRESS WORKDIR [FLAGS OF PLAN]
#
# COMPRESS is the built program; a flag may be --precision bf16. Prints wall and processor time and the largest resident
# set (from GNU time), the peak of multiply-adds of this moment, and, where perf may sample, the share of the processor time
# in matrix products: their kernels, and the packing and adding that belongs to them.
set -eu
compress=$1 work=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
[ -d "$work/model" ] || (cd "$here" && go run ../randommodel -shape llama-135m -windows 64 -length 512 -o "$work/model")
cat >"$work/recipe.yaml" <<EOF
version: 1
seed: 1
target: [hf]
calibration: {sequences: 64, holdout: 0, length: 512}
quantize: {method: rsq, bits: 4, group_size: 64}
EOF
rm -rf "$work/plan.json" "$work/out" "$work/out.partial"
run() { name=$1; shift; /usr/bin/time -f "$name: %e s by the clock, %U + %S s of processor time (user + system), %M KiB resident" "$@" >"$work/$name.txt"; }
run plan "$compress" plan --model "$work/model" --recipe "$work/recipe.yaml" --calib "$work/model/calib.jsonl" -o "$work/plan.json" "$@"
(cd "$here" && go build -o "$work/peerbench" .)
echo "peak 1 1 1 2 1 -" | "$work/peerbench" -serve | awk '{printf "peak of 2 threads: %.0f GFLOP/s\n", $1 / 1e9}'
run apply "$compress" apply "$work/plan.json" --model "$work/model" --calib "$work/model/calib.jsonl" -o "$work/out"
echo "peak 1 1 1 2 1 -" | "$work/peerbench" -serve | awk '{printf "peak of 2 threads: %.0f GFLOP/s\n", $1 / 1e9}'
if command -v perf >/dev/null && perf stat true 2>/dev/null; then
	rm -rf "$work/out"
	perf record -q -F 499 -o "$work/perf.data" "$compress" apply "$work/plan.json" --model "$work/model" --calib "$work/model/calib.jsonl" -o "$work/out" >"$work/perf.txt"
	perf report -i "$work/perf.data" --stdio --sort symbol 2>/dev/null | awk '
		/^ *[0-9.]+%/ { share = $1 + 0; name = $3 }
		/^ *[0-9.]+%/ && name ~ /num\.micro/ { kernel += share }
		/^ *[0-9.]+%/ && name ~ /num\.(micro|transpose|copyRows|scaleRows|addWide|AddWide|pack|pairs|\(\*gemmPass|\(\*widePass|\(\*passBF16)/ { all += share }
		END { printf "of the processor time of apply: %.0f %% in kernels of products, %.0f %% with their packing and adding\n", kernel, all }'
fi
