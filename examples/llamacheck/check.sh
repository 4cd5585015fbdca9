#!/bin/sh
# Proves what compress convert writes for llama.cpp by llama.cpp:
#
#	LLAMA=PREFIX DATA=IDS sh examples/llamacheck/check.sh MODEL...
#
# PREFIX holds an installed llama.cpp: include/llama.h, lib/libllama.so with the libraries of ggml, bin/llama-quantize, and bin/llama-imatrix with TEXT.
# MODEL is a checkpoint directory. DATA is a file of token ids (.npy or .safetensors) that all models are measured on; without
# it, each on its own ref_ids.npy. Converted files go to WORK, which stays if it was given, and else is a temporary
# directory.
#
# For every model and each of TYPES: perplexity by llama.cpp and by compress eval, which may differ by 0.2 %, and logits where the
# checkpoint has some of other software. For each of QUANTS, which may be empty: our file and the one that llama-quantize makes of our F32
# file, tensor by tensor; ours may not be farther from the values. LENGTH (0: whole rows) and WINDOWS (0: all) say how much to
# measure, THREADS (2) how many threads llama.cpp has.
#
# With TEXT, a file of text, models that have a tokenizer are also given importance matrices: llama-imatrix makes one in each of its two forms from
# CHUNKS (16) windows of CHUNK (512) tokens, compress imatrix one from the same windows, which may differ by 0.1 %. With each of the three, our files
# of QUANTS have the bytes that llama-quantize gives them. TYPES may be empty.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${WORK:-}" ]; then
	mkdir -p "$WORK"
	work=$(cd "$WORK" && pwd)
else
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
types=${TYPES-f32,f16,bf16,q8_0,q4_0,q4_k_m,q5_k_m,q6_k}
quants=${QUANTS-q8_0 q4_0 q4_1 q5_0 q5_1 q4_k_s q4_k_m q5_k_m q6_k}
threads=${THREADS:-2}

(cd "$here" && CGO_ENABLED=0 go build -o "$work/compress" ../../cmd/compress && CGO_ENABLED=0 go build -o "$work/llamacheck" .)
c++ -O2 -std=c++17 -I"$LLAMA/include" -o "$work/logits" "$here/logits/logits.cpp" \
	-L"$LLAMA/lib" -lllama -lggml -lggml-base -Wl,-rpath,"$LLAMA/lib"
llama() { program=$1; shift; LD_LIBRARY_PATH="$LLAMA/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$LLAMA/bin/llama-$program" "$@"; }
logged() { log=$1; shift; llama "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }; }

bad=0
check() { "$@" || { [ $? -eq 6 ] && bad=6 || exit 1; }; }

# importance compares matrices and what comes of them, for the model whose F32 file is in $out.
importance() {
	chunk=${CHUNK:-512}
	for form in gguf dat; do
		logged "$out/imatrix.log" imatrix -m "$out/f32.gguf" -f "$TEXT" -o "$out/imatrix.$form" --output-format "$form" --no-ppl \
			-c "$chunk" -b "$chunk" --chunks "${CHUNKS:-16}" -t "$threads" -ctk f32 -ctv f32 -fa off
	done
	"$work/llamacheck" windows -model "$model" -gguf "$out/f32.gguf" -text "$TEXT" -length "$chunk" -windows "${CHUNKS:-16}" -o "$out/text.npy"
	rm -f "$out/ours.gguf"
	"$work/compress" imatrix -q "$model" --calib "$out/text.npy" --length "$chunk" -o "$out/ours.gguf" >/dev/null
	check "$work/llamacheck" imatrix "$out/ours.gguf" "$out/imatrix.gguf"
	check "$work/llamacheck" imatrix "$out/imatrix.dat" "$out/imatrix.gguf"
	for q in $quants; do
		for matrix in imatrix.gguf imatrix.dat ours.gguf; do
			rm -f "$out/weighted.gguf"
			"$work/compress" convert -q "$model" --to gguf --type "$q" --imatrix "$out/$matrix" -o "$out/weighted.gguf" >/dev/null
			logged "$out/theirs-$q.log" quantize --imatrix "$out/$matrix" "$out/f32.gguf" "$out/theirs-$q.gguf" "$q" "$threads"
			printf '%s, %s: ' "$q" "$matrix"
			check "$work/llamacheck" tensors -same -source "$out/f32.gguf" "$out/weighted.gguf" "$out/theirs-$q.gguf"
			rm -f "$out/weighted.gguf" "$out/theirs-$q.gguf"
		done
	done
}

for model in "$@"; do
	out=$work/$(basename "$model")
	mkdir -p "$out"
	[ -z "$types" ] || check "$work/llamacheck" perplexity -compress "$work/compress" -logits "$work/logits" -model "$model" -data "${DATA:-}" \
		-work "$out" -types "$types" -length "${LENGTH:-0}" -windows "${WINDOWS:-0}" -threads "$threads"
	[ -f "$out/f32.gguf" ] || "$work/compress" convert -q "$model" --to gguf --type f32 -o "$out/f32.gguf" >/dev/null
	for q in $quants; do
		[ -f "$out/$q.gguf" ] || "$work/compress" convert -q "$model" --to gguf --type "$q" -o "$out/$q.gguf" >/dev/null
		logged "$out/theirs-$q.log" quantize "$out/f32.gguf" "$out/theirs-$q.gguf" "$q" "$threads"
		printf '%s: ' "$q"
		check "$work/llamacheck" tensors -source "$out/f32.gguf" "$out/$q.gguf" "$out/theirs-$q.gguf"
		rm -f "$out/theirs-$q.gguf"
	done
	if [ -n "${TEXT:-}" ] && [ -f "$model/tokenizer.json" ]; then
		importance
	fi
done
exit $bad
