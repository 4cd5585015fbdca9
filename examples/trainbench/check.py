"""Compares the models of models.py with logits that other software computed, and their gradients with differences.

    check.py DIR ...          each a checkpoint with ref_ids.npy [T] and ref_logits.npy [T, V]
    check.py DIR=FILE ...     a checkpoint and a .safetensors file with the tensors ids [N, T] and logits [N, T, V]
"""
import sys

import numpy as np
import torch

import checkpoint
import models

TOLERANCE = 1e-5  # of logits in float32, relative to the largest
GRADIENT = 1e-6  # of gradients in float64, relative to the largest of the tensor


def reference(argument):
    directory, _, file = argument.partition("=")
    if not file:
        ids = np.load(directory + "/ref_ids.npy").astype(np.int64)[None]
        return directory, ids, np.load(directory + "/ref_logits.npy")[None]
    found = {n: np.frombuffer(raw, "<f4" if d == "F32" else checkpoint.INTEGERS[d]).reshape(shape)
             for n, d, shape, raw in checkpoint.tensors(file) if n in ("ids", "logits")}
    return directory, found["ids"].astype(np.int64), found["logits"]


@torch.no_grad()
def logits_apart(config, weights, ids, logits):
    got = models.model(config, weights).logits(torch.from_numpy(ids)).numpy()
    return float(np.abs(got - logits).max() / np.abs(logits).max())


def gradients_apart(config, weights, ids, each=3, h=1e-5):
    """The largest difference between backward and central differences, at a few values of each tensor that matter most."""
    m = models.model(config, weights, torch.float64)
    models.loss(m, ids).backward()
    worst = 0.0
    with torch.no_grad():
        for w in m.w.values():
            flat, grad = w.view(-1), w.grad.view(-1)
            for i in grad.abs().topk(min(each, len(grad))).indices:
                old, sides = flat[i].item(), []
                for sign in (1, -1):
                    flat[i] = old + sign * h
                    sides.append(models.loss(m, ids).item())
                flat[i] = old
                apart = abs((sides[0] - sides[1]) / (2 * h) - grad[i].item()) / grad.abs().max().item()
                worst = max(worst, apart)
    return worst


def main():
    failed = not sys.argv[1:]
    for argument in sys.argv[1:]:
        directory, ids, logits = reference(argument)
        config, weights = checkpoint.load(directory)
        a = logits_apart(config, weights, ids, logits)
        g = gradients_apart(config, weights, torch.from_numpy(ids[:1, :32]))
        good = a <= TOLERANCE and g <= GRADIENT
        failed = failed or not good
        print(f"{directory}: logits {a:.1e}, gradients {g:.1e}: {'good' if good else 'BAD'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
