#!/usr/bin/env bash
# Compiles every kernel source to PTX for compute capability 8.0, which the driver of any later GPU turns into its own code:
# kernels/build.sh [directory for the result [sources]]. The result depends on the sources and the release of nvcc alone; the files
# that are committed are from release 11.8, the oldest that the program wants to run with.
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-ptx}
shift $(($# > 0 ? 1 : 0))
mkdir -p "$out"
[ $# -gt 0 ] || set -- *.cu
for source in "$@"; do
	[ -e "$source" ] || continue
	name=$(basename "$source" .cu)
	nvcc -ptx -arch=compute_80 -O3 -std=c++17 -I . "$source" -o "$out/.$name.ptx"
	# Comments name the release of the compiler and nothing that the driver reads.
	sed -e 's,[[:space:]]*//.*$,,' -e '/^[[:space:]]*$/d' "$out/.$name.ptx" >"$out/$name.ptx"
	rm "$out/.$name.ptx"
done
