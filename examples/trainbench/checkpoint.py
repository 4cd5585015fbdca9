"""Reads safetensors checkpoints and token ids with numpy alone, and names them by digests."""
import hashlib
import json
import struct
from pathlib import Path

import numpy as np

INTEGERS = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8"}


def tensors(path):
    """Yields (name, dtype, shape, bytes) of every tensor of a .safetensors file."""
    raw = Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    for name, t in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            yield name, t["dtype"], t["shape"], raw[8 + size + a : 8 + size + b]


def values(dtype, shape, raw):
    """A float tensor as float32: the upper half of its bits is what bfloat16 has."""
    if dtype == "F32":
        flat = np.frombuffer(raw, "<f4").copy()
    elif dtype == "BF16":
        flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        flat = np.frombuffer(raw, "<f2").astype(np.float32)
    else:
        raise ValueError(f"weights of type {dtype}")
    return flat.reshape(shape)


def load(directory):
    """The configuration of a checkpoint directory and its tensors as float32, by name."""
    directory = Path(directory)
    weights = {}
    for path in sorted(directory.glob("*.safetensors")):
        for name, dtype, shape, raw in tensors(path):
            weights[name] = values(dtype, shape, raw)
    return json.loads((directory / "config.json").read_text()), weights


def windows(path, length):
    """Windows [N, length] of the token ids in tensor "ids" of a file: each row is cut in order, what is left over is dropped."""
    for name, dtype, shape, raw in tensors(path):
        if name == "ids":
            rows = np.frombuffer(raw, INTEGERS[dtype]).reshape(-1, shape[-1]).astype(np.int64)
            return rows[:, : shape[-1] // length * length].reshape(-1, length)
    raise ValueError(f"{path} holds no tensor ids")


def weights_digest(weights):
    """Hash of every tensor in the order of names: the name, a zero byte, the values as little-endian float32."""
    h = hashlib.sha256()
    for name in sorted(weights):
        h.update(name.encode() + b"\0" + weights[name].astype("<f4").tobytes())
    return "sha256:" + h.hexdigest()


def windows_digest(rows):
    """The digest of windows that package calib defines: their number, then the length and the ids of each."""
    h = hashlib.sha256(struct.pack("<Q", len(rows)))
    for row in rows:
        h.update(struct.pack("<Q", len(row)) + row.astype("<u4").tobytes())
    return "sha256:" + h.hexdigest()
