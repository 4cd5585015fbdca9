#!/bin/sh
# Proves what compress convert writes for llama.cpp by llama.cpp:
#
#	LLAMA=PREFIX DATA=IDS sh examples/llamacheck/check.sh MODEL...
#
# PREFIX holds an installed llama.cpp: include/llama.h, lib/libllama.so with the libraries of ggml, bin/llama-quantize.
# MODEL is a checkpoint directory. DATA is a file of token ids (.npy or .safetensors) that all models are measured on; without
# it, each on its own ref_ids.npy. Converted files go to WORK, which stays if it was given, and else is a temporary
# directory.
#
# For every model and each of TYPES: perplexity by llama.cpp and by compress eval, which may differ by 0.2 %, and logits where the
# checkpoint has some of other software. For each of QUANTS, which may be empty: our file and the one that llama-quantize makes of our F32
# file, tensor by tensor; ours may not be farther from the values. LENGTH (0: whole rows) and WINDOWS (0: all) say how much to
# measure, THREADS (2) how many threads llama.cpp has.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${WORK:-}" ]; then
	mkdir -p "$WORK"
	work=$(cd "$WORK" && pwd)
else
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
types=${TYPES:-f32,f16,bf16,q8_0,q4_0,q4_k_m,q5_k_m,q6_k}
quants=${QUANTS-q8_0 q4_0 q4_1 q5_0 q5_1 q4_k_s q4_k_m q5_k_m q6_k}
threads=${THREADS:-2}

(cd "$here" && CGO_ENABLED=0 go build -o "$work/compress" ../../cmd/compress && CGO_ENABLED=0 go build -o "$work/llamacheck" .)
c++ -O2 -std=c++17 -I"$LLAMA/include" -o "$work/logits" "$here/logits/logits.cpp" \
	-L"$LLAMA/lib" -lllama -lggml -lggml-base -Wl,-rpath,"$LLAMA/lib"
quantize() { LD_LIBRARY_PATH="$LLAMA/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$LLAMA/bin/llama-quantize" "$@"; }

bad=0
check() { "$@" || { [ $? -eq 6 ] && bad=6 || exit 1; }; }

for model in "$@"; do
	out=$work/$(basename "$model")
	mkdir -p "$out"
	check "$work/llamacheck" perplexity -compress "$work/compress" -logits "$work/logits" -model "$model" -data "${DATA:-}" \
		-work "$out" -types "$types" -length "${LENGTH:-0}" -windows "${WINDOWS:-0}" -threads "$threads"
	[ -f "$out/f32.gguf" ] || "$work/compress" convert -q "$model" --to gguf --type f32 -o "$out/f32.gguf" >/dev/null
	for q in $quants; do
		[ -f "$out/$q.gguf" ] || "$work/compress" convert -q "$model" --to gguf --type "$q" -o "$out/$q.gguf" >/dev/null
		quantize "$out/f32.gguf" "$out/theirs-$q.gguf" "$q" "$threads" >"$out/theirs-$q.log" 2>&1 || { cat "$out/theirs-$q.log"; exit 1; }
		printf '%s: ' "$q"
		check "$work/llamacheck" tensors -source "$out/f32.gguf" "$out/$q.gguf" "$out/theirs-$q.gguf"
		rm -f "$out/theirs-$q.gguf"
	done
done
exit $bad
