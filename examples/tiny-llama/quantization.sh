#!/bin/sh
# Compares RTN, GPTQ, rotated GPTQ and RSQ at 4 and 3 bits on the example model: perplexity, KL to the original and
# answer loss on needle prompts, over three seeds (calibration draw and rotation).
#
#   quantization.sh COMPRESS HELDOUT_IDS PROMPTS WORKDIR
#
# COMPRESS is the built program, HELDOUT_IDS a file of token ids to judge by (.npy or .safetensors), PROMPTS retrieval
# prompts in JSON. Calibration text is the source of the Go commands in the user's own Go installation.
set -eu
compress=$1 ids=$2 prompts=$3 work=$4
here=$(cd "$(dirname "$0")" && pwd)
text="$(go env GOROOT)/src/cmd:.go"
mkdir -p "$work"

evaluate() { # DIR NAME
	"$compress" eval "$1" --json --reference "$here/model" --data "$ids" --windows 64 --length 512 --bos 0 --replace-first \
		--prompts "$prompts" --max-prompts 100 >"$work/$2.jsonl"
	awk -v name="$2" '/"name":"evaluation"/ {
		match($0, /"PPL":[0-9.e-]+/); split(substr($0, RSTART, RLENGTH), p, ":")
		match($0, /"KL":[0-9.e-]+/); split(substr($0, RSTART, RLENGTH), k, ":")
		match($0, /"AnswerNLL":[0-9.e-]+/); split(substr($0, RSTART, RLENGTH), a, ":")
		printf "%-24s ppl %.4f  kl %.5f  answer nll %.4f\n", name, p[2], k[2], a[2] }' "$work/$2.jsonl" | tee -a "$work/table.txt"
}

: >"$work/table.txt"
evaluate "$here/model" original
for bits in 4 3; do
	for seed in 1 2 3; do
		for method in rtn gptq rot-gptq rsq; do
			name=$method-w${bits}g64-seed$seed
			case $method in
			rtn) [ $seed = 1 ] || continue; settings="method: rtn, clip: false" ;;
			gptq) settings="method: gptq, clip: ${CLIP:-false}" ;;
			rot-gptq) settings="method: gptq, rotate: hadamard, clip: ${CLIP:-false}" ;;
			rsq) settings="method: rsq, clip: ${CLIP:-false}" ;;
			esac
			cat >"$work/$name.yaml" <<-EOF
				version: 1
				seed: $seed
				target: [hf]
				calibration: {sequences: 128, holdout: 0, length: 512, shuffle: true}
				quantize: {$settings, bits: $bits, group_size: 64}
			EOF
			"$compress" plan -q --model "$here/model" --recipe "$work/$name.yaml" --calib "$text" -o "$work/$name.json" >"$work/$name.log"
			rm -rf "$work/$name"
			"$compress" apply -q "$work/$name.json" --model "$here/model" --calib "$text" -o "$work/$name" >>"$work/$name.log"
			evaluate "$work/$name" "$name"
		done
	done
done
