#!/usr/bin/env python3
"""Decompresses checkpoints with the code of the package compressed-tensors and writes digests of what it gives, with the package's presets.

    go test ./formats/packed -run TestDecompressed -args -write DIR
    python3 examples/formatcheck/ctensors.py PACKAGE DIR > formats/packed/testdata/decompressed.json

PACKAGE is the folder that holds compressed_tensors/__init__.py: site-packages, or src of a checkout. DIR has one folder for each
checkpoint, with config.json and model.safetensors; where there is original.safetensors, its weights are compressed too, under
the scales of model.safetensors and under those that the package computes itself.

Needed are torch, pydantic 2 and numpy; of the modules that the package imports and that are missing, stand-ins are made, since none of
them takes part in the arithmetic. A torch without 8-bit floats (before 2.1) carries their values in float32; the conversion is then that
of fp8() below.
"""

import hashlib
import importlib.abc
import importlib.machinery
import json
import pathlib
import struct
import sys
import types

import numpy as np
import torch

OLD = not hasattr(torch, "float8_e4m3fn")


def e4m3():
    """The values of the 256 codes of E4M3."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7).astype(np.float64)
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    values[codes & 127 == 127] = np.nan
    return np.where(codes < 128, values, -values)


TABLE = e4m3()


def fp8(values):
    """The codes of float32 values, nearest with ties to even; every value is in the range."""
    values = values.astype(np.float64)
    finite = TABLE[:127]
    above = np.clip(np.searchsorted(finite, np.abs(values)), 1, 126)
    low, high = finite[above - 1], finite[above]
    up = np.abs(values) - low > high - np.abs(values)
    tie = np.abs(values) - low == high - np.abs(values)
    codes = np.where(up | tie & (above % 2 == 0), above, above - 1)
    return (codes + np.where(np.signbit(values), 128, 0)).astype(np.uint8)


def shims():
    """Names that a torch before 2.1 lacks. quint4x2 stands for the dtype that the package asks for; nothing is stored in it."""
    torch.float8_e4m3fn, torch.float8_e5m2 = torch.quint4x2, torch.quint2x4
    torch.uint16, torch.uint32, torch.uint64 = torch.int16, torch.int32, torch.int64  # to look at bits of positive numbers
    finfo, to = torch.finfo, torch.Tensor.to

    def finfo8(dtype=None):
        if dtype is torch.quint4x2:
            return types.SimpleNamespace(max=448.0, min=-448.0, bits=8, eps=0.125, tiny=2.0**-6)
        return finfo(dtype) if dtype is not None else finfo()

    def to8(self, *args, **kwargs):
        if torch.quint4x2 in args or kwargs.get("dtype") is torch.quint4x2:
            return torch.from_numpy(TABLE[fp8(self.float().numpy())].astype(np.float32)).reshape(self.shape)
        return to(self, *args, **kwargs)

    torch.finfo, torch.Tensor.to = finfo8, to8
    tensor = torch.tensor

    def tensor8(data, dtype=None, **kwargs):
        return tensor(data, dtype=torch.float32 if dtype is torch.quint4x2 else dtype, **kwargs)

    torch.tensor = tensor8


class StandIn(types.ModuleType):
    """A module all of whose names are classes that take anything."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {"__init__": lambda self, *a, **k: None, "__call__": lambda self, *a, **k: a[0] if a else self})
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes stand-ins for modules whose names begin in one of these ways."""

    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if any(name == n or name.startswith(n + ".") for n in self.names):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        if module.__name__ == "loguru":
            module.logger = Quiet()
        if module.__name__.endswith(".version"):
            module.__version__ = module.version = "checkout"
            module.__all__ = ["__version__", "version"]


class Quiet:
    """A logger that says nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: self


DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I8": torch.int8, "U8": torch.uint8,
    "I32": torch.int32, "I64": torch.int64, "F8_E4M3": None if OLD else torch.float8_e4m3fn,
}


def load(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, t in json.loads(data[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = t["data_offsets"]
        raw = torch.frombuffer(bytearray(data[8 + n + a : 8 + n + b]), dtype=torch.uint8)
        if t["dtype"] == "F8_E4M3" and OLD:
            value = torch.from_numpy(TABLE[raw.numpy()].astype(np.float32))
        else:
            value = raw.view(DTYPES[t["dtype"]])
        tensors[name] = value.reshape(t["shape"])
    return tensors


def raw(t):
    """The bytes of a tensor."""
    t = t.detach().contiguous()
    if t.dtype == torch.bfloat16:
        t = t.view(torch.int16)
    elif not OLD and t.dtype == torch.float8_e4m3fn:
        t = t.view(torch.uint8)
    return t.numpy().tobytes()


def digest(t):
    names = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.uint8: "U8"}
    return {"dtype": names[t.dtype], "shape": list(t.shape), "sha256": hashlib.sha256(raw(t)).hexdigest()}


def codes8(t):
    """The codes of a tensor of 8-bit floats."""
    return torch.from_numpy(fp8(t.numpy())) if OLD else t.view(torch.uint8)


def modules(tensors):
    """The tensors of each module under their local names."""
    found = {}
    for name, t in tensors.items():
        module, _, local = name.rpartition(".")
        found.setdefault(module, {})[local] = t
    return found


class Package:
    """What is used of the package."""

    def __init__(self):
        from compressed_tensors import quantization
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.entrypoints.convert.converters import fp8block_dequantizer, modelopt_nvfp4
        from compressed_tensors.quantization.lifecycle import forward
        from compressed_tensors.quantization.utils import helpers
        from compressed_tensors.utils import match

        self.config, self.scheme = quantization.QuantizationConfig, quantization.QuantizationScheme
        self.compressor = BaseCompressor.get_value_from_registry
        self.blocks, self.modelopt = fp8block_dequantizer.FP8BlockDequantizer, modelopt_nvfp4.ModelOptNvfp4Converter
        self.dequantize, self.helpers, self.matches = forward.dequantize, helpers, match.match_name

    def scheme_of(self, config, module):
        for scheme in config.config_groups.values():
            if any(t == "Linear" or self.matches(module, t) for t in scheme.targets):
                scheme.format = scheme.format or config.format
                return scheme
        raise KeyError(module)

    def decompress(self, state, scheme):
        """One weight. The strategy of a block is not passed on by the package's own decompression, which then guesses the size of blocks from
        that of the weight; the guess is right where blocks divide the weight. Elsewhere its arithmetic is called with the size that the config has."""
        w = scheme.weights
        if w.strategy == "block" and any(n % b for n, b in zip(state["weight"].shape, w.block_structure)):
            return self.dequantize(x_q=state["weight"], scale=state["weight_scale"], args=w)
        out = self.compressor(scheme.format)
        return out.decompress(state, scheme)["weight"]

    def dense(self, quantization, tensors):
        method = quantization["quant_method"]
        if method == "fp8" and quantization.get("weight_block_size"):
            return self.blocks(targets=["re:.*"], weight_block_size=quantization["weight_block_size"]).process(tensors)
        if method == "modelopt":
            tensors = self.modelopt(targets=["re:.*"]).process(tensors)
            quantization = self.modelopt(targets=["Linear"]).create_config().model_dump()
        config = self.config.model_validate(quantization)
        dense = {}
        for module, state in modules(tensors).items():
            scheme = self.scheme_of(config, module)
            state = {k: v for k, v in state.items() if not k.startswith("input")}
            w = self.decompress(state, scheme)
            # One group in a row takes the way of whole rows, which leaves the product of NVFP4 in float32; a loader rounds it to the type of the model.
            dense[module + ".weight"] = w.to(torch.bfloat16) if scheme.format == "nvfp4-pack-quantized" else w
        return dense

    def compress(self, quantization, tensors, original):
        """Codes under the scales of the file, and the scales that the package computes, in float32."""
        config, found = self.config.model_validate(quantization), {}
        for module, state in modules(tensors).items():
            scheme, w = self.scheme_of(config, module), original[module + ".weight"]
            args = scheme.weights
            scale = state["weight_scale"]
            if scale.dtype == torch.uint8:
                scale = 2.0 ** (scale.to(torch.float32) - 127)
            state = {"weight": w, "weight_scale": scale.to(torch.float32), **{k: v for k, v in state.items() if "global" in k}}
            done = self.compressor(scheme.format).compress(state, scheme)
            if "weight_packed" in done:
                found[module + ".weight_packed"] = digest(done["weight_packed"])
            else:
                found[module + ".weight"] = digest(codes8(done["weight"]))
            found.update(self.scales(module, w, args, scheme.format))
        return found

    def scales(self, module, w, args, form):
        h, found = self.helpers, {}
        whole = None
        if args.strategy == "tensor":
            low, high = torch.aminmax(w.reshape(1, -1), dim=-1)
        elif args.strategy == "channel":
            low, high = torch.aminmax(w, dim=-1, keepdim=True)
        elif args.strategy == "block":
            rows, columns = args.block_structure
            padded = h.maybe_pad_tensor_for_block_quant(w, (rows, columns))
            blocks = padded.reshape(padded.shape[0] // rows, rows, -1, columns).transpose(1, 2).flatten(2)
            low, high = torch.aminmax(blocks, dim=-1)
        else:
            low, high = torch.aminmax(w.unflatten(-1, (w.shape[1] // args.group_size, args.group_size)), dim=-1)
        if args.strategy == "tensor_group":
            whole = h.generate_gparam(*torch.aminmax(w))
            found[module + ".weight_global_scale"] = digest(whole)
        scale, _ = h.calculate_qparams(low, high, args, global_scale=whole)
        if form == "nvfp4-pack-quantized":
            scale = codes8(scale.to(torch.float8_e4m3fn))
        elif form == "mxfp4-pack-quantized":
            scale = self.compressor(form)._compress_scale(scale, args)
        found[module + ".weight_scale"] = digest(scale)
        return found

    def presets(self):
        """The settings that have names, as config_groups has them."""
        from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme

        names = ["W4A16", "W4A16_ASYM", "W8A16", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4A16", "MXFP4A16"]
        text = json.dumps({n: preset_name_to_scheme(n, ["Linear"]).model_dump(mode="json") for n in names})
        return json.loads(text.replace("quint4x2", "float8_e4m3fn") if OLD else text)


def main(package, folder):
    if OLD:
        shims()
    # What moves models between devices is not loaded; what is missing is made up.
    sys.meta_path.insert(0, Finder("compressed_tensors.offload", "compressed_tensors.distributed"))
    sys.meta_path.append(Finder("loguru", "transformers", "accelerate", "frozendict", "safetensors", "tqdm", "psutil",
                                "huggingface_hub", "compressed_tensors.version"))
    sys.path.insert(0, package)
    ct, report = Package(), {}
    for case in sorted(p for p in pathlib.Path(folder).iterdir() if p.is_dir()):
        quantization = json.loads((case / "config.json").read_text())["quantization_config"]
        tensors = load(case / "model.safetensors")
        report[case.name] = {"dense": {k: digest(v) for k, v in sorted(ct.dense(quantization, dict(tensors)).items())}}
        if (case / "original.safetensors").exists():
            original = load(case / "original.safetensors")
            report[case.name]["compressed"] = dict(sorted(ct.compress(quantization, tensors, original).items()))
    json.dump({"checkpoints": report, "presets": ct.presets()}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
