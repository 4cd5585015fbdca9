"""PyTorch's side of the comparison; peers.cc describes the protocol. Ops:

gptq        a layer of m outputs and n inputs by the plain formulation of GPTQ (arXiv:2210.17323, algorithm 1) in f32
forward     n windows of m tokens through a Llama of a safetensors file, eager attention, weights widened to f32
forwardbf16 the same with weights and activations in bfloat16
"""
import ctypes
import json
import math
import resource
import struct
import sys
import time

import numpy as np
import torch


def series(n, seed):
    """The generator of peers.cc: seed = seed*1664525 + 1013904223 modulo 2^32, n times."""
    with np.errstate(over="ignore"):
        power = np.cumprod(np.full(n, 1664525, np.uint32), dtype=np.uint32)
        shift = np.concatenate([np.ones(1, np.uint32), power[:-1]]).cumsum(dtype=np.uint32)
        return power * np.uint32(seed) + shift * np.uint32(1013904223)


def pattern(n, seed):
    return torch.from_numpy(((series(n, seed) >> 25).astype(np.float32) - 64) / 64)


def gptq_job(out, inp):
    weights = pattern(out * inp, 1).reshape(out, inp)
    s = pattern(inp, 3) + 2
    i = torch.arange(inp)
    given = 0.9 ** (i[:, None] - i[None, :]).abs().float() * s[:, None] * s[None, :]

    def run():
        w, h, group = weights.clone(), given.clone(), 128
        q = torch.zeros_like(w)
        d = torch.arange(inp)
        h[d, d] += 0.01 * torch.mean(torch.diag(h))
        h = torch.linalg.cholesky(h)
        h = torch.cholesky_inverse(h)
        u = torch.linalg.cholesky(h, upper=True)
        for a in range(0, inp, 128):
            b = min(a + 128, inp)
            wb, qb, eb, ub = w[:, a:b].clone(), torch.zeros(out, b - a), torch.zeros(out, b - a), u[a:b, a:b]
            for c in range(b - a):
                if (a + c) % group == 0:
                    scale = w[:, a + c : a + c + group].abs().amax(1) / 7
                    scale[scale == 0] = 1
                col = wb[:, c]
                qb[:, c] = torch.clamp(torch.round(col / scale), -8, 7) * scale
                e = (col - qb[:, c]) / ub[c, c]
                wb[:, c:] -= e[:, None].matmul(ub[c, c:][None, :])
                eb[:, c] = e
            q[:, a:b] = qb
            w[:, b:] -= eb.matmul(u[a:b, b:])
        return q

    def value(q):
        e = weights - q
        return float((e.matmul(given) * e).sum() / (weights.matmul(given) * weights).sum())

    return run, value


class Llama:
    """A Llama without its head, from config.json and model.safetensors."""

    def __init__(self, path, dtype):
        self.c = json.load(open(path + "/config.json"))
        raw = np.memmap(path + "/model.safetensors", np.uint8, "r")
        n = struct.unpack("<Q", raw[:8].tobytes())[0]
        self.w = {}
        for name, t in json.loads(raw[8 : 8 + n].tobytes()).items():
            if name == "__metadata__":
                continue
            if t["dtype"] != "BF16":
                raise ValueError("weights of %s are %s, not BF16" % (name, t["dtype"]))
            a, b = t["data_offsets"]
            half = torch.from_numpy(raw[8 + n + a : 8 + n + b].view(np.int16).copy()).view(torch.bfloat16)
            self.w[name] = half.reshape(t["shape"]).to(dtype)
        self.dtype = dtype

    def norm(self, x, name):
        f = x.float()
        f = f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return f.to(x.dtype) * self.w[name]

    def forward(self, ids):
        c, t = self.c, len(ids)
        heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
        dim = c["hidden_size"] // heads
        angle = torch.outer(torch.arange(t).float(), c["rope_theta"] ** (-torch.arange(0, dim, 2).float() / dim))
        angle = torch.cat([angle, angle], 1)
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        mask = torch.full((t, t), -math.inf).triu(1).to(self.dtype)

        def rotate(v):
            a, b = v.chunk(2, -1)
            return v * cos + torch.cat([-b, a], -1) * sin

        x = self.w["model.embed_tokens.weight"][ids]
        for layer in range(c["num_hidden_layers"]):
            p = "model.layers.%d." % layer
            linear = lambda name, v: torch.nn.functional.linear(v, self.w[p + name + "_proj.weight"])
            y = self.norm(x, p + "input_layernorm.weight")
            q = rotate(linear("self_attn.q", y).view(t, heads, dim).transpose(0, 1))
            k = rotate(linear("self_attn.k", y).view(t, kv, dim).transpose(0, 1)).repeat_interleave(heads // kv, 0)
            v = linear("self_attn.v", y).view(t, kv, dim).transpose(0, 1).repeat_interleave(heads // kv, 0)
            s = q.matmul(k.transpose(1, 2)) / math.sqrt(dim) + mask
            o = torch.softmax(s.float(), -1).to(self.dtype).matmul(v).transpose(0, 1).reshape(t, heads * dim)
            x = x + linear("self_attn.o", o)
            y = self.norm(x, p + "post_attention_layernorm.weight")
            x = x + linear("mlp.down", torch.nn.functional.silu(linear("mlp.gate", y)) * linear("mlp.up", y))
        return x


def set_threads(n):
    """PyTorch's own threads, and those of the OpenBLAS that it may call, which it does not limit."""
    torch.set_num_threads(n)
    if blas:
        blas.openblas_set_num_threads(n)


try:
    blas = ctypes.CDLL("libopenblas.so.0")
except OSError:
    blas = None
loaded = {}


def forward_job(path, tokens, windows, dtype):
    if (path, dtype) not in loaded:
        loaded[path, dtype] = Llama(path, dtype)
    model = loaded[path, dtype]
    vocabulary = model.c["vocab_size"]
    ids = [torch.from_numpy((series(tokens, i).astype(np.uint64) * np.uint64(vocabulary) >> np.uint64(32)).astype(np.int64)) for i in range(windows)]

    def run():
        for window in ids:
            x = model.forward(window)
        return x

    return run, lambda x: float(x.float().pow(2).mean())


def busy():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


@torch.no_grad()
def main():
    for line in sys.stdin:
        op, m, n, k, threads, times, path = line.split(maxsplit=6)
        m, n, times = int(m), int(n), int(times)
        set_threads(int(threads))
        if op == "gptq":
            run, value = gptq_job(m, n)
        elif op in ("forward", "forwardbf16"):
            run, value = forward_job(path.strip(), m, n, torch.float32 if op == "forward" else torch.bfloat16)
            run()
        else:
            print("none", flush=True)
            continue
        wall, cpu = time.monotonic(), busy()
        for _ in range(times):
            result = run()
        wall, cpu = time.monotonic() - wall, busy() - cpu
        print(wall / times, cpu / times, value(result), flush=True)


main()
