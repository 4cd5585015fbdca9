#!/bin/sh
# Compares our engine with other software on one machine and in one go. On Debian:
#   apt-get install g++ libopenblas-dev libdnnl-dev python3-torch
# Arguments are those of the Go program, such as -ops nt,nn -sizes 1024,2048 -threads 1,2 -rounds 9. For the forward pass
# -model names a Llama in bfloat16 (examples/randommodel writes one); llama.cpp takes part where -llama-bench, -gguf-f32
# and -gguf-bf16 name its program and the model in its format.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -O2 -fopenmp -o "$work/peers" "$here/peers/peers.cc" -lopenblas -ldnnl
(cd "$here" && CGO_ENABLED=0 go build -o "$work/peerbench" .)
"$work/peerbench" -peers "$work/peers" -torch "/usr/bin/python3 $here/peers/peers.py" "$@"
