#!/usr/bin/env bash
# Installs what the build tag cuda needs (cuda.h, and nvcc for the test of committed PTX) from Debian's contrib and non-free, where
# that is possible: as root, on Debian. Exits with 0 and says "cuda: ready" or "cuda: not here, because …".
set -uo pipefail

ready() { [ -f /usr/include/cuda.h ] || [ -f "${CUDA_HOME:-/usr/local/cuda}/include/cuda.h" ]; }
no() { echo "cuda: not here, because $*"; exit 0; }

if ready; then echo "cuda: ready"; exit 0; fi
command -v apt-get >/dev/null || no "there is no apt-get"
[ "$(id -u)" = 0 ] || no "only root may install packages"
. /etc/os-release
[ "${ID:-}" = debian ] || no "packages are known for Debian alone"

list=$(mktemp)
trap 'rm -f "$list"' EXIT
echo "deb http://deb.debian.org/debian $VERSION_CODENAME main contrib non-free" >"$list"
chmod 644 "$list"
apt=(apt-get -q -y -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=-)
log=$(mktemp)
{ "${apt[@]}" update && DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends nvidia-cuda-toolkit nvidia-cuda-dev g++; } >"$log" 2>&1 ||
	no "the packages could not be installed: $(tail -n 1 "$log")"
ready || no "the packages bring no cuda.h"
echo "cuda: ready"
