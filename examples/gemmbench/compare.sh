#!/bin/sh
# Compares our matrix products with OpenBLAS and oneDNN, on one machine and in one go. On Debian:
#   apt-get install g++ libopenblas-dev libdnnl-dev
# Arguments are those of the Go program, such as -sizes 1024,2048 -threads 1,2 -rounds 9 -ops nt,nn,bf16,bf16r.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
g++ -O2 -fopenmp -o "$work/peers" "$here/peers/peers.cc" -lopenblas -ldnnl
(cd "$here" && CGO_ENABLED=0 go build -o "$work/gemmbench" .)
"$work/gemmbench" -peers "$work/peers" "$@"
