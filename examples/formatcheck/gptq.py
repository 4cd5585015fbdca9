"""Writes what AutoGPTQ and GPTQModel make of weights that a generator draws, as digests: the golden file of formats/gptq.

    gptq.py PATH ... > formats/gptq/testdata/golden.json

Each PATH is a checkout or an installed package of AutoGPTQ or of GPTQModel. Only the functions that pack, unpack and look up settings are
taken from it, so that none of its dependencies but PyTorch and NumPy are needed.
"""
import json
import math
import os
import re
import sys
import types

import numpy as np
import torch

from weights import IN, OUT, Any, Conv1D, Module, dense, draw, linear, sha, take

transformers = types.SimpleNamespace(pytorch_utils=types.SimpleNamespace(Conv1D=Conv1D))


class AutoGPTQ:
    name, package = "AutoGPTQ", "auto_gptq"
    versions = [1]

    def __init__(self, root):
        self.file = os.path.join(root, "nn_modules", "qlinear", "qlinear_cuda.py")

    def pack(self, bits, group, version, codes, zeros, scales, index):
        space = take(self.file, ["QuantLinear"], {
            "torch": torch, "nn": torch.nn, "np": np, "math": math, "transformers": transformers, "logger": Any(),
            "autogptq_cuda_64": None, "autogptq_cuda_256": None, "_autogptq_cuda_available": False})
        q = space["QuantLinear"](bits, group, IN, OUT, False, weight_dtype=torch.float32)
        q.pack(linear(dense(codes, zeros, scales, index)), scales.clone(), zeros.float().clone(), index)
        # The product with the identity is the weight itself, as float32: every sum has one term that is not zero.
        return q, q(torch.eye(IN)).t()


class GPTQModel:
    name, package = "GPTQModel", "gptqmodel"
    versions = [1, 2]

    def __init__(self, root):
        self.root = root

    def functions(self):
        space = {"torch": torch, "t": torch, "np": np, "math": math, "transformers": transformers, "THREADPOOLCTL": Any(), "log": Any(),
                 "_ConvNd": Conv1D, "BaseQuantLinear": Module, "PLANAR_BITS": (5, 6, 7)}
        file = lambda *p: os.path.join(self.root, *p)
        take(file("utils", "model_dequant.py"), [
            "unpack_cols", "pack_cols", "unpack_rows", "_require_int32_words_for_3bit", "_unpack_cols_3bit", "_pack_cols_3bit",
            "_unpack_rows_3bit", "_shift_gptq_qzeros", "_correct_gptq_v1_qzeros", "_revert_gptq_v1_qzeros_correction"], space)
        take(file("utils", "model.py"), ["convert_gptq_v1_to_v2_format_module", "convert_gptq_v2_to_v1_format_module"], space)
        return take(file("nn_modules", "qlinear", "__init__.py"), [
            "_torch_shift_factor", "_torch_right_shift", "_torch_left_shift", "PackableQuantLinear._init_wf_unsqueeze_buffers",
            "PackableQuantLinear.dequantize_weight", "PackableQuantLinear._dequantize_from_codes", "PackableQuantLinear.pack_original"], space)

    def pack(self, bits, group, version, codes, zeros, scales, index):
        f = self.functions()
        q = Module()
        q.bits, q.maxq, q.planar, q.pack_dtype, q.pack_dtype_bits, q.pack_factor = bits, 2**bits - 1, False, torch.int32, 32, 32 // bits
        q.pack_np_dtype, q.pack_np_math_dtype, q.enable_wf_unsqueeze = np.int32, np.uint32, True
        q.dequant_dtype = torch.int16 if bits == 8 else torch.int8
        q.qzero_format = lambda format: None
        q._wf_device = lambda: torch.device("cpu")
        for method in ("_init_wf_unsqueeze_buffers", "_dequantize_from_codes"):
            setattr(q, method, types.MethodType(f[method], q))
        f["pack_original"](q, linear(dense(codes, zeros, scales, index)), scales.clone(), zeros.float(), index.long())
        stored = q.qzeros.clone()
        if version == 1:
            f["convert_gptq_v2_to_v1_format_module"](q, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
            stored = q.qzeros.clone()
            f["convert_gptq_v1_to_v2_format_module"](q, bits, torch.int32)
        q.scales = q.scales.float()
        weight = f["dequantize_weight"](q).t()
        q.qzeros = stored
        return q, weight

    def dynamic(self, dynamic, names):
        space = {"pcre": re, "re": re, "Any": object, "log": Any()}
        take(os.path.join(self.root, "quantization", "config.py"), [
            "_DYNAMIC_NO_MATCH", "_DYNAMIC_PATTERN_CACHE", "_DYNAMIC_OVERRIDE_CACHE", "_DYNAMIC_EXACT_LOOKUP_CACHE", "_DYNAMIC_ALL_EXACT_CACHE",
            "_DYNAMIC_REGEX_PATTERN_CACHE", "_extract_literal_regex_pattern", "_get_dynamic_patterns", "_resolve_dynamic_override"], space)
        return {n: space["_resolve_dynamic_override"](dynamic, n) for n in names}


def case(software, bits, group, order, symmetric, version, lowest):
    codes, zeros, scales, index = draw(bits, group, order, symmetric, lowest)
    q, weight = software.pack(bits, group, version, codes, zeros, scales, index)
    if lowest > 0 or version == 2:
        assert torch.equal(weight, dense(codes, zeros, scales, index)), "the software does not read what it wrote"
    c = {"by": software.name, "bits": bits, "group": group, "order": order, "symmetric": symmetric, "version": version, "lowest": lowest,
         "qweight": sha(q.qweight, "<i4"), "qzeros": sha(q.qzeros, "<i4"), "scales": sha(q.scales, "<f2"), "g_idx": sha(q.g_idx, "<i4"),
         "dense": sha(weight, "<f4")}
    if version == 1 and lowest == 0:
        c["words"] = q.qzeros.numpy().view(np.uint32).flatten().tolist()
    return c


DYNAMIC = {
    "-:.*\\.1\\.mlp": {},
    "+:model\\.layers\\.2\\..*": {"bits": 8, "group_size": 32},
    "layers\\.3": {"bits": 2},
    "-:^model\\.layers\\.4\\.mlp\\.up$": {},
    ".*\\.2\\.mlp\\.up": {"bits": 3},
    "+:.*(up|down)$": {"sym": False},
}
NAMES = ["model.layers.%d.%s" % (i, m) for i in range(6) for m in ("mlp.up", "mlp.up2", "mlp.down", "attn.q")] + ["layers.3.x", "head"]


def main():
    kinds, cases, dynamic = [AutoGPTQ, GPTQModel], [], None
    for path in sys.argv[1:]:
        root = next((os.path.join(d, k.package) for d in (path, os.path.dirname(path.rstrip("/"))) for k in kinds
                     if os.path.isdir(os.path.join(d, k.package)) and (d == path or path.rstrip("/").endswith(k.package))), None)
        if root is None:
            sys.exit(path + ": neither AutoGPTQ nor GPTQModel")
        software = next(k for k in kinds if root.endswith(k.package))(root)
        for bits in (2, 3, 4, 8):
            for group, order in ((-1, False), (32, False), (96, True)):
                for symmetric in (False, True):
                    for version in software.versions:
                        cases.append(case(software, bits, group, order, symmetric, version, 2 - version))
            if software.name == "GPTQModel":
                cases.append(case(software, bits, 32, False, False, 1, 0))
        if software.name == "GPTQModel":
            dynamic = {"patterns": DYNAMIC, "modules": software.dynamic(DYNAMIC, NAMES)}
    json.dump({"out": OUT, "in": IN, "cases": cases, "dynamic": dynamic}, sys.stdout, indent=1)
    print()


main()
