#!/usr/bin/env python3
"""Runs llama.cpp's convert_hf_to_gguf.py where its requirements are not all at hand: with a PyTorch of before the 8-bit floats, and
without the package transformers. Weights go the way that they always go; the vocabulary is left out, as models of random weights
have none.

    convert.py DIRECTORY_OF_LLAMA.CPP MODEL --outtype f16 --outfile FILE

The requirements that stay are torch, numpy and yaml (Debian: python3-torch python3-numpy python3-yaml python3-tqdm
python3-requests). With all of them, convert_hf_to_gguf.py itself does the same and needs a tokenizer beside the weights.
"""
import os
import runpy
import sys
import types


def without_transformers():
    """A module that fails where it is asked for a configuration: the converter then reads config.json by itself."""

    class Missing:
        @staticmethod
        def from_pretrained(*_, **__):
            raise OSError("transformers is not installed")

    module = types.ModuleType("transformers")
    module.AutoConfig = module.AutoTokenizer = Missing
    return module


def main():
    source = os.path.abspath(sys.argv[1])
    sys.path[:0] = [source, os.path.join(source, "gguf-py")]
    try:
        import transformers  # noqa: F401
    except ImportError:
        sys.modules["transformers"] = without_transformers()
    import torch

    for name in ("float8_e4m3fn", "float8_e5m2"):
        if not hasattr(torch, name):
            setattr(torch, name, object())  # a key of tables, for tensors that such a model does not have
    import conversion
    from conversion.base import TextModel

    conversion.load_all_models()

    def leave_out(cls):
        cls.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("none")
        for sub in cls.__subclasses__():
            leave_out(sub)

    leave_out(TextModel)
    program = os.path.join(source, "convert_hf_to_gguf.py")
    sys.argv = [program] + sys.argv[2:]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
