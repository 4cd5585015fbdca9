"""What gptq.py and awq.py share: the generator of weights, and functions taken out of other software without its dependencies."""
import ast
import copy
import hashlib

import numpy as np
import torch

OUT, IN = 64, 192


def series(n, seed):
    """seed = seed*1664525 + 1013904223 modulo 2^32, n times; the high bits are the ones to use."""
    x = []
    for _ in range(n):
        seed = (seed * 1664525 + 1013904223) % 2**32
        x.append(seed)
    return np.array(x, np.uint32)


def draw(bits, group, order, symmetric, lowest):
    """codes [OUT, IN], zero points [OUT, G] of at least lowest, scales [OUT, G] that float16 holds, groups of columns [IN]."""
    group = IN if group == -1 else group
    g, levels = IN // group, 1 << bits
    codes = (series(OUT * IN, bits) >> 20) % levels
    zeros = lowest + (series(OUT * g, bits + 100) >> 20) % (levels - lowest)
    if symmetric:
        zeros[:] = levels // 2
    scales = (0x1C00 + (series(OUT * g, bits + 200) >> 20)).astype(np.uint16).view(np.float16).astype(np.float32)
    columns = np.arange(IN)
    index = ((columns * 5 + 3) % IN if order else columns) // group
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in (
        codes.astype(np.int64).reshape(OUT, IN), zeros.astype(np.int64).reshape(OUT, g), scales.reshape(OUT, g), index.astype(np.int32))]


def take(path, names, given):
    """Runs the definitions of the given names, "Class.method" for methods, and returns what they define."""
    tree, wanted = ast.parse(open(path, encoding="utf-8").read()), []
    for node in tree.body:
        targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.AnnAssign):
            targets = [node.target.id]
        if getattr(node, "name", None) in names or any(t in names for t in targets):
            wanted.append(node)
        elif isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if getattr(m, "name", None) and node.name + "." + m.name in names]
            wanted += methods
    module = ast.Module([ast.parse("from __future__ import annotations").body[0]] + copy.deepcopy(wanted), [])
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list, node.returns = [], None
            for a in node.args.args + node.args.kwonlyargs:
                a.annotation = None
    exec(compile(ast.fix_missing_locations(module), path, "exec"), given)
    return given


class Any:
    """Stands for what the functions mention and do not need."""

    def __getattr__(self, name):
        return Any()

    def __call__(self, *a, **k):
        return Any()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        return None


class Conv1D(torch.nn.Module):
    pass


class Module(torch.nn.Module):
    pass


def dense(codes, zeros, scales, index):
    index = index.long()
    return (codes - zeros[:, index]).float() * scales[:, index]


def linear(weight):
    m = torch.nn.Linear(IN, OUT, bias=False)
    m.weight.data = weight
    return m


def sha(t, dtype):
    return hashlib.sha256(np.ascontiguousarray(t.detach().numpy().astype(dtype)).tobytes()).hexdigest()
