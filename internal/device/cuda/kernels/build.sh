#!/usr/bin/env bash
# Compiles kernels/*.cu to PTX, build.sh [directory for the result [sources]], to kernels/ptx without arguments. The code is for compute
# capability 8.0, and drivers compile it for what is newer. The result depends on the sources and the release of nvcc alone; what is
# committed is written by 11.8.
set -euo pipefail
cd "$(dirname "$0")"
to=${1:-ptx}
mkdir -p "$to"
sources=("${@:2}")
[ $# -gt 1 ] || sources=(*.cu)
# The compiler orders some moves of constants by the addresses of its own data: it gets the same ones every time, where the system lets it.
fixed=()
if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi
for f in "${sources[@]}"; do
	name=$(basename "$f" .cu)
	"${fixed[@]}" "${NVCC:-nvcc}" -ptx -arch=compute_80 -std=c++17 -O3 -I. "$f" -o "$to/.$name"
	# Comments name the build of the compiler and nothing that a driver reads.
	sed -e 's,[[:space:]]*//.*$,,' -e '/^[[:space:]]*$/d' "$to/.$name" >"$to/$name.ptx"
	rm "$to/.$name"
done
