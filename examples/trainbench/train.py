"""Trains a checkpoint with PyTorch on the CPU and prints one JSON line per step and one about speed; README.md says how."""
import argparse
import ctypes
import json
import math
import resource
import statistics
import sys
import time

import numpy as np
import torch

import checkpoint
import models

BETAS, EPS, DECAY, CLIP, FLOOR = (0.9, 0.95), 1e-8, 0.1, 1.0, 0.1


def rate(step, steps, warmup, peak):
    """Linear warmup, then a cosine (arXiv:1608.03983) that would reach FLOOR*peak one step after the last."""
    if step < warmup:
        return peak * (step + 1) / warmup
    floor = FLOOR * peak
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def adamw(m):
    """AdamW (arXiv:1711.05101) with weight decay on what has two dimensions."""
    all = list(m.w.values())
    groups = [{"params": [p for p in all if p.dim() == 2], "weight_decay": DECAY},
              {"params": [p for p in all if p.dim() != 2], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS)


def batch(data, order, step, size):
    """The windows of a step: those of the order, or the next ones, from the first again after the last."""
    at = range(step * size, (step + 1) * size)
    return torch.from_numpy(data[[order[i] if order else i % len(data) for i in at]])


def cpu_seconds():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def train(a, m, data, order, report):
    """Runs all steps. Returns seconds by the clock and of processor time for each."""
    optimizer = adamw(m)
    wall, cpu = [], []
    for step in range(a.steps):
        t, c = time.monotonic(), cpu_seconds()
        ids = batch(data, order, step, a.batch)
        optimizer.zero_grad(set_to_none=True)
        loss = models.loss(m, ids)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(m.w.values()), CLIP)
        lr = rate(step, a.steps, a.warmup, a.lr)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        report({"step": step, "loss": short(loss), "norm": short(norm), "lr": lr})
        wall.append(time.monotonic() - t)
        cpu.append(cpu_seconds() - c)
    return wall, cpu


def short(x):
    """A value with the nine digits that tell any two float32 apart."""
    return float(f"{x.item():.9g}")


def speed(a, threads, wall, cpu):
    """Tokens per second by the median step; the first step, which takes memory, does not count where there are others."""
    tokens = a.batch * a.length
    median = [statistics.median(s[1:] or s) for s in (wall, cpu)]
    return {"threads": threads, "batch": a.batch, "length": a.length, "steps": a.steps,
            "tokens_per_second": round(tokens / median[0], 1), "tokens_per_cpu_second": round(tokens / median[1], 1)}


def set_threads(n):
    """PyTorch's own threads, and those of an OpenBLAS with threads of its own, which it does not limit."""
    torch.set_num_threads(n)
    try:
        ctypes.CDLL("libopenblas.so.0").openblas_set_num_threads(n)
    except OSError:
        print("train.py: no OpenBLAS; products may be slow", file=sys.stderr)


def show(line):
    print(json.dumps(line), flush=True)


def curve(a, config, weights, data, order):
    """Trains in float32, which is printed, and again in float64; both curves go to a file with all that they follow from."""
    lines = {}
    for dtype in (torch.float32, torch.float64):
        lines[dtype] = []
        report = lambda line: (lines[dtype].append(line), dtype == torch.float32 and show(line))
        train(a, models.model(config, weights, dtype), data, order, report)
    keys = ("loss", "norm")
    out = {
        "torch": torch.__version__, "threads": torch.get_num_threads(), "shape": config,
        "weights": checkpoint.weights_digest(weights), "windows": checkpoint.windows_digest(data),
        "length": a.length, "batch": a.batch, "steps": a.steps, "warmup": a.warmup, "lr": a.lr, "floor": FLOOR,
        "betas": BETAS, "eps": EPS, "decay": DECAY, "clip": CLIP, "seed": a.seed,
        **{k: [line[k] for line in lines[torch.float32]] for k in keys},
        **{k + "64": [line[k] for line in lines[torch.float64]] for k in keys},
    }
    with open(a.curve, "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")


def parse():
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    p.add_argument("-model", required=True, help="checkpoint directory, the values to start from")
    p.add_argument("-data", required=True, help=".safetensors file of token ids")
    p.add_argument("-order", help="file of window indices, as many as a step takes for each step")
    p.add_argument("-length", type=int, default=128, help="tokens of a window")
    p.add_argument("-batch", type=int, default=8, help="windows of a step")
    p.add_argument("-steps", type=int, default=200)
    p.add_argument("-warmup", type=int, default=20)
    p.add_argument("-lr", type=float, default=3e-3, help="peak of the learning rate")
    p.add_argument("-threads", default="1", help="threads; with -bench several numbers, such as 1,2")
    p.add_argument("-bench", action="store_true", help="print speed alone")
    p.add_argument("-curve", help="file for the losses in float32 and float64")
    p.add_argument("-seed", type=int, default=100, help="seed that the weights were made from, to note in that file")
    return p.parse_args()


def main():
    a = parse()
    torch.use_deterministic_algorithms(True)
    config, weights = checkpoint.load(a.model)
    data = checkpoint.windows(a.data, a.length)
    order = [int(i) for i in open(a.order).read().split()] if a.order else None
    for threads in (int(n) for n in a.threads.split(",")):
        set_threads(threads)
        if a.curve:
            curve(a, config, weights, data, order)
            continue
        m = models.model(config, weights)
        show(speed(a, threads, *train(a, m, data, order, (lambda line: None) if a.bench else show)))


if __name__ == "__main__":
    main()
