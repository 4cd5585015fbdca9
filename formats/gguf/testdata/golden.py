"""Writes the golden files with gguf-py, the Python package of llama.cpp. See README.md."""

import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFEndian, GGUFValueType as V, GGUFWriter

OUT = Path(sys.argv[1])

INTS = {
    "uint8": (V.UINT8, 0, 2**8 - 1), "int8": (V.INT8, -(2**7), 2**7 - 1),
    "uint16": (V.UINT16, 0, 2**16 - 1), "int16": (V.INT16, -(2**15), 2**15 - 1),
    "uint32": (V.UINT32, 0, 2**32 - 1), "int32": (V.INT32, -(2**31), 2**31 - 1),
    "uint64": (V.UINT64, 0, 2**64 - 1), "int64": (V.INT64, -(2**63), 2**63 - 1),
}


def metadata(w):
    for name, (kind, low, high) in INTS.items():
        w.add_key_value("one." + name, high, kind)
        w.add_key_value("many." + name, [low, 1, high], V.ARRAY, kind)
    for name, kind in (("float32", V.FLOAT32), ("float64", V.FLOAT64)):
        w.add_key_value("one." + name, 0.1, kind)
        w.add_key_value("many." + name, [-0.0, 1e-3, float("inf")], V.ARRAY, kind)
    w.add_bool("one.bool", True)
    w.add_array("many.bool", [True, False, True])
    w.add_string("one.string", "grüße, 世界")
    w.add_array("many.string", ["a", "", "Ġthe", "line\nbreak"])


def data(seed, size):
    return (np.arange(size, dtype=np.int64) * 7 + seed).astype(np.uint8)


def tensors(w):
    w.add_tensor("f32.vector", data(1, 5 * 4).view(np.float32))
    w.add_tensor("f32.matrix", data(2, 3 * 4 * 4).view(np.float32).reshape(3, 4))
    w.add_tensor("f16.cube", data(3, 2 * 3 * 5 * 2).view(np.float16).reshape(2, 3, 5))
    w.add_tensor("i8.four", data(4, 2 * 1 * 3 * 2).view(np.int8).reshape(2, 1, 3, 2))
    w.add_tensor("f64.scalar", data(5, 8).view(np.float64).reshape(()))
    w.add_tensor("bf16", data(6, 2 * 3 * 2).reshape(2, 6), raw_dtype=T.BF16)
    w.add_tensor("q8_0", data(7, 2 * 2 * 34).reshape(2, 68), raw_dtype=T.Q8_0)
    w.add_tensor("q4_0", data(8, 3 * 18).reshape(3, 18), raw_dtype=T.Q4_0)
    w.add_tensor("q6_k", data(9, 2 * 210).reshape(2, 210), raw_dtype=T.Q6_K)


def write(name, **options):
    alignment = options.pop("alignment", None)
    w = GGUFWriter(OUT / name, "golden", **options)
    if alignment:
        w.add_custom_alignment(alignment)
    metadata(w)
    tensors(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


write("kinds.gguf")
write("align64.gguf", alignment=64)
write("big-endian.gguf", endianess=GGUFEndian.BIG)
write("python.gguf", split_max_tensors=4)
