#!/bin/sh
# Builds what examples/gpubench/run.sh needs on a machine with a GPU but without Go or the headers of CUDA, into one folder to carry there:
#
#   build.sh OUT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$here/../.."
for name in gpubench profilecost randommodel; do
	go build -trimpath -tags cuda -ldflags=-s -o "$out/$name" "./examples/$name"
done
go build -trimpath -tags cuda -ldflags=-s -o "$out/compress" ./cmd/compress
go test -trimpath -tags cuda -ldflags=-s -c -o "$out/cuda.test" ./internal/device/cuda
rm -rf "$out/cuda"
cp -r internal/device/cuda "$out/cuda" # some tests read the sources beside them
cp "$here/run.sh" "$here/layer.py" "$out/"
mkdir -p "$out/tiny-llama"
cp -r examples/tiny-llama/model examples/tiny-llama/data examples/tiny-llama/release.yaml "$out/tiny-llama/"
du -sh "$out"
