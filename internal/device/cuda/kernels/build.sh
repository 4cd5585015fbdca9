#!/usr/bin/env bash
# Compiles kernels/*.cu to kernels/ptx/*.ptx, or to another directory: build.sh [directory]. What is committed is written by nvcc 11.8; the code is
# for compute capability 8.0, and drivers compile it for what is newer.
set -euo pipefail
cd "$(dirname "$0")"
to=${1:-ptx}
mkdir -p "$to"
for f in *.cu; do
	"${NVCC:-nvcc}" -ptx -arch=compute_80 -std=c++17 -O3 -I. "$f" -o "$to/${f%.cu}.ptx"
done
