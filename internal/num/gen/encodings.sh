#!/bin/sh
# Writes testdata/encodings.txt: every instruction that the generator emits as bytes, as GNU as encodes it.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n 's/^\tBYTE .* \/\/ //p' ../bf16_amd64.s | sort -u >"$work/in.s"
as -o "$work/out.o" "$work/in.s"
objdump -d --insn-width=12 "$work/out.o" | sed -n 's/^ *[0-9a-f]*:\t\([0-9a-f ]*[0-9a-f]\) *\t.*/\1/p' >"$work/codes"
paste -d: "$work/codes" "$work/in.s" | sed 's/:/: /' >testdata/encodings.txt
