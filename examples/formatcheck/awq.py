"""Writes what AutoAWQ makes of weights that a generator draws, as digests: the golden file of formats/awq.

    awq.py PATH > formats/awq/testdata/golden.json

PATH is a checkout or an installed package of AutoAWQ. Only the functions that pack and unpack are taken from it, so that none of its
dependencies but PyTorch and NumPy are needed.
"""
import json
import os
import sys

import torch

from weights import IN, OUT, Module, dense, draw, linear, sha, take


class Torch:
    """PyTorch with indices of 64 bits: releases before 2.1 do not take others."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def arange(self, *a, dtype=None, **k):
        return torch.arange(*a, **k)


def case(root, group, symmetric):
    codes, zeros, scales, index = draw(4, group, False, symmetric, 0)
    size = IN if group == -1 else group
    space = take(os.path.join(root, "modules", "linear", "gemm.py"), ["WQLinear_GEMM.from_linear"], {
        "torch": torch, "get_best_device": lambda: "cpu"})

    def layer(w_bit, group_size, inputs, outputs, bias, device):
        q = Module()
        q.w_bit, q.group_size, q.in_features, q.out_features, q.bias = w_bit, size, inputs, outputs, None
        return q

    q = space["from_linear"](layer, linear(dense(codes, zeros, scales, index)), 4, size, False, scales.t().contiguous(), zeros.t().float())
    f = take(os.path.join(root, "utils", "packing_utils.py"), [
        "AWQ_ORDER", "AWQ_REVERSE_ORDER", "unpack_awq", "reverse_awq_order", "dequantize_gemm"], {"torch": Torch()})
    # In float32; the program itself rounds the product to float16, the type of the scales.
    weight = f["dequantize_gemm"](q.qweight, q.qzeros, q.scales.float(), 4, size).t()
    half = f["dequantize_gemm"](q.qweight, q.qzeros, q.scales, 4, size).t()
    assert torch.equal(weight, dense(codes, zeros, scales, index)), "the software does not read what it wrote"
    return {"by": "AutoAWQ", "group": group, "symmetric": symmetric, "qweight": sha(q.qweight, "<i4"), "qzeros": sha(q.qzeros, "<i4"),
            "scales": sha(q.scales, "<f2"), "dense": sha(weight, "<f4"), "half": sha(half, "<f2")}


def main():
    path = sys.argv[1]
    root = os.path.join(path, "awq") if os.path.isdir(os.path.join(path, "awq")) else path
    cases = [case(root, group, symmetric) for group in (-1, 32, 96) for symmetric in (False, True)]
    json.dump({"out": OUT, "in": IN, "cases": cases}, sys.stdout, indent=1)
    print()


main()
