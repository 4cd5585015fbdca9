"""RSQ of one decoder layer in plain PyTorch, to time beside compress on the same card.

  python3 layer.py [--windows 128 --length 2048] [--device cuda]

Random weights of the shape of Llama-3-8B; what is done is what compress does to a layer: attention of the unquantized layer with its column
sums, which give each token its weight; then, site by site, the second moments of the inputs, GPTQ of the projections that read them
(4 bits, groups of 128, symmetric, scales searched on 5 shrunken ranges), and the pass to the next site with the quantized weights. Products
in bfloat16, second moments in float32 without TF32, GPTQ in float32. Nothing is fused and nothing is compiled.
"""
import argparse
import math
import time

import torch
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--device", default="cuda")
p.add_argument("--windows", type=int, default=128)
p.add_argument("--length", type=int, default=2048)
p.add_argument("--width", type=int, default=4096)
p.add_argument("--ffn", type=int, default=14336)
p.add_argument("--heads", type=int, default=32)
p.add_argument("--kv", type=int, default=8)
p.add_argument("--group", type=int, default=128)
a = p.parse_args()

torch.backends.cuda.matmul.allow_tf32 = False
torch.manual_seed(1)
dev, bf16 = torch.device(a.device), torch.bfloat16
K = a.width // a.heads


def weight(rows, cols):
    return (torch.randn(rows, cols, device=dev) / math.sqrt(cols)).to(bf16)


W = {"q": weight(a.heads * K, a.width), "k": weight(a.kv * K, a.width), "v": weight(a.kv * K, a.width), "o": weight(a.width, a.heads * K),
     "gate": weight(a.ffn, a.width), "up": weight(a.ffn, a.width), "down": weight(a.width, a.ffn)}
states = [torch.randn(a.length, a.width, device=dev).to(bf16) for _ in range(a.windows)]
pos = torch.arange(a.length, device=dev).float()[:, None] * (500000.0 ** (-torch.arange(0, K, 2, device=dev).float() / K))[None, :]
cos, sin = pos.cos()[None], pos.sin()[None]
hidden = torch.ones(a.length, a.length, dtype=torch.bool, device=dev).triu(1)


def norm(x):
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)).to(bf16)


def rope(x):
    u, v = x[..., : K // 2].float(), x[..., K // 2:].float()
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1).to(bf16)


def heads_of(x, name, n):
    return (x @ W[name].T).view(a.length, n, K).transpose(0, 1)


def attention(x, sums=None):
    """Output of attention for the normed states of a window; sums receives the attention that each key gets from all queries and heads."""
    n = norm(x)
    q, k, v = rope(heads_of(n, "q", a.heads)), rope(heads_of(n, "k", a.kv)), heads_of(n, "v", a.kv)
    r = a.heads // a.kv
    if sums is None and hasattr(F, "scaled_dot_product_attention"):
        out = F.scaled_dot_product_attention(q[None], k.repeat_interleave(r, 0)[None], v.repeat_interleave(r, 0)[None], is_causal=True)[0]
        return out.transpose(0, 1).reshape(a.length, -1)
    out = torch.empty(a.length, a.heads, K, dtype=bf16, device=dev)
    for h in range(a.heads):
        s = (q[h] @ k[h // r].T).float() / math.sqrt(K)
        w = s.masked_fill(hidden, -math.inf).softmax(-1)
        if sums is not None:
            sums += w.sum(0)
        out[:, h] = w.to(bf16) @ v[h // r]
    return out.view(a.length, -1)


def moment(h, x, w):
    y = x.float() * w[:, None]
    h.addmm_(y.T, y)


def scales(w):
    top, best, loss = w.abs().amax(1), None, None
    for shrink in (1.0, 0.95, 0.9, 0.85, 0.8):
        s = (top * shrink / 7.5).clamp(min=1e-9)
        e = ((w / s[:, None]).round().clamp(-8, 7) * s[:, None] - w).pow(2).sum(1)
        if best is None:
            best, loss = s, e
        else:
            take = e < loss
            best, loss = torch.where(take, s, best), torch.where(take, e, loss)
    return best


def gptq(w, h):
    """Frantar et al., arXiv:2210.17323, algorithm 1, by blocks of 128 columns."""
    w, n = w.float().clone(), w.shape[1]
    h = h / h.diagonal().mean()
    h.diagonal().add_(0.01)
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    out, s = torch.empty_like(w), None
    for i1 in range(0, n, 128):
        i2 = min(i1 + 128, n)
        block, errors, r = w[:, i1:i2].clone(), torch.empty(w.shape[0], i2 - i1, device=dev), u[i1:i2, i1:i2]
        for i in range(i2 - i1):
            if (i1 + i) % a.group == 0:
                s = scales(block[:, i:i + a.group])
            c = block[:, i]
            q = (c / s).round().clamp(-8, 7) * s
            e = (c - q) / r[i, i]
            block[:, i:] -= e[:, None] * r[i, i:][None]
            out[:, i1 + i], errors[:, i] = q, e
        w[:, i2:] -= errors @ u[i1:i2, i2:]
    return out.to(bf16)


def clock():
    if dev.type == "cuda":
        torch.cuda.synchronize()
    return time.time()


def stage(name, start):
    now = clock()
    print(f"  {name:<24} {now - start:8.3f} s", flush=True)
    return now


def site(names, inputs, width, weights):
    h = torch.zeros(width, width, device=dev)
    start = clock()
    for x, w in zip(inputs(), weights):
        moment(h, x, w)
    now = stage("second moments " + names[0], start)
    for name in names:
        W[name] = gptq(W[name], h)
    stage("gptq " + " ".join(names), now)


def layer():
    weights, start = [], clock()
    for x in states:
        sums = torch.zeros(a.length, device=dev)
        attention(x, sums)
        low, high = sums.min(), sums.max()
        weights.append(((sums - low) / (high - low) * 0.99 + 0.01))
    stage("importance", start)
    site(["q", "k", "v"], lambda: (norm(x) for x in states), a.width, weights)
    attn = [attention(x) for x in states]
    site(["o"], lambda: iter(attn), a.heads * K, weights)
    mid = [x + y @ W["o"].T for x, y in zip(states, attn)]
    site(["gate", "up"], lambda: (norm(x) for x in mid), a.width, weights)

    def act(x):
        n = norm(x)
        return F.silu(n @ W["gate"].T) * (n @ W["up"].T)

    site(["down"], lambda: (act(x) for x in mid), a.ffn, weights)
    for x in mid:
        x += act(x) @ W["down"].T


with torch.no_grad():
    begin = clock()
    layer()
    print(f"PyTorch {torch.__version__}, one layer, {a.windows} x {a.length} tokens: {clock() - begin:.2f} s")
    if dev.type == "cuda":
        print(f"  most memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
