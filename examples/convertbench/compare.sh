#!/bin/sh
# Times compress convert beside llama.cpp's converter and llama-quantize, and beside reading, hashing and writing alone:
#
#	LLAMA=PREFIX CONVERTER="python3 convert_hf_to_gguf.py" WORK=DIR sh examples/convertbench/compare.sh [-rounds 3] [-types f16,q8_0]
#
# PREFIX holds an installed llama.cpp with bin/llama-quantize, CONVERTER is the command of its converter; where its Python packages are not
# there, peers/convert.py says how to do without some. Either can be left out. WORK is a directory on the disk to measure.
# MODEL is a checkpoint; without it one of random weights is made in WORK: SHAPE and LAYERS are those of examples/randommodel. The default
# has 8.03 GiB of weights in bfloat16, and 22 GiB of disk are needed in all; LAYERS=1 makes one of 0.87 GiB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$WORK"
work=$(cd "$WORK" && pwd)
model=${MODEL:-$work/model-${SHAPE:-llama-2-7b}-${LAYERS:-20}}
[ -d "$model" ] || (cd "$here" && go run ../randommodel -shape "${SHAPE:-llama-2-7b}" -layers "${LAYERS:-20}" -windows 0 -o "$model")
(cd "$here" && CGO_ENABLED=0 go build -o "$work/compress" ../../cmd/compress && CGO_ENABLED=0 go build -o "$work/convertbench" .)
quantize=
if [ -n "${LLAMA:-}" ]; then
	quantize=$LLAMA/bin/llama-quantize
	export LD_LIBRARY_PATH="$LLAMA/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
"$work/convertbench" -compress "$work/compress" -quantize "$quantize" -converter "${CONVERTER:-}" -model "$model" -work "$work/out" "$@"
