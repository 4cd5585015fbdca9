#!/bin/sh
# Trains the same checkpoint with our program and with PyTorch, by turns, and prints rates and their ratio (ours divided by
# PyTorch's), and by how much losses and gradient norms differ. On Debian: apt-get install python3-torch libopenblas0-openmp
# Arguments are those of both programs but -threads: -model DIR -data FILE -length 128 -batch 8 -steps 12 -warmup 2 -lr 1e-4
# THREADS (1 2) and ROUNDS (3) say how often; settings of PyTorch's libraries, such as OMP_WAIT_POLICY, can be set outside.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$here" && CGO_ENABLED=0 go build -o "$work/trainbench" .)

ours() { "$work/trainbench" "$@"; }

# What makes PyTorch fast, also where other programs run: an OpenBLAS that shares the threads of OpenMP, threads that do
# not spin while they wait, and large buffers that go back to the allocator, not to the system.
theirs() {
	for blas in /usr/lib/*/openblas-openmp; do
		LD_LIBRARY_PATH=$blas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} \
			MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 /usr/bin/python3 "$here/train.py" "$@"
		return
	done
}

round=1
while [ "$round" -le "${ROUNDS:-3}" ]; do
	for n in ${THREADS:-1 2}; do
		ours "$@" -threads "$n" >"$work/ours.$n.$round"
		theirs "$@" -threads "$n" >"$work/torch.$n.$round"
	done
	round=$((round + 1))
done
/usr/bin/python3 "$here/compare.py" "$work"
