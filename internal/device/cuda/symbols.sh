#!/usr/bin/env bash
# Writes symbols.h: what gorgonia.org/cu links of the driver, as the dynamic linker would have to find it. Needs cuda.h, nm and a
# libcuda.so to link with, which may be a stub of the toolkit.
set -euo pipefail
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/main.go" <<'GO'
package main

import _ "gorgonia.org/cu"

func main() {}
GO
CGO_ENABLED=1 go build -o "$dir/main" "$dir/main.go"
{
	echo "// Written by symbols.sh: the functions of the driver that gorgonia.org/cu links, but for cuInit."
	nm -D --undefined-only "$dir/main" | awk '$2 ~ /^cu[A-Z]/ && $2 != "cuInit" { sub(/@.*/, "", $2); print $2 }' | LC_ALL=C sort -u | sed 's/.*/X(&)/'
} >symbols.h
