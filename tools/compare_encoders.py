#!/usr/bin/env python3
"""Compares what our encoders lose with what llama.cpp's lose, format by format, as a Markdown table.

    tools/compare_encoders.py [FORMAT …] [--rows 64] [--columns 1024] [--seed 1]

Needs the example (`cargo build --release -p metallic-tensor --example encode`) and the PyPI packages `numpy` and
`llama-cpp-python`, whose library encodes, and decodes the blocks of both.

Sources are normal numbers and Student's t with four degrees of freedom (heavy tails). Errors are the root of the mean
square error over that of the source; with importances both are weighted by them, and both encoders get them. Formats
for which llama.cpp asks for an importance matrix get one of ones. The last column is the worst ratio of ours to theirs;
the exit status is 1 if one is over 1.01.
"""
import argparse, ctypes, importlib.util, os, subprocess, sys, tempfile
from pathlib import Path

import numpy as np

# Name: ggml's id, elements and bytes of a block.
FORMATS = {
    "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210), "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74), "IQ3_XXS": (18, 256, 98),
    "IQ1_S": (19, 256, 50), "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110), "IQ2_S": (22, 256, 82),
    "IQ4_XS": (23, 256, 136), "IQ1_M": (29, 256, 56), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17), "NVFP4": (40, 64, 36), "Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18),
}
NEED_IMPORTANCES = {"IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"}
ENCODE = Path(__file__).resolve().parent.parent / "target/release/examples/encode"


def library():
    folder = Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
    ggml = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [
        ctypes.c_void_p
    ]
    return ggml


def theirs(ggml, name, source, importances):
    kind, elements, size = FORMATS[name]
    rows, columns = source.shape
    if importances is None and name in NEED_IMPORTANCES:
        importances = np.ones(columns, np.float32)
    blocks = np.zeros(source.size // elements * size, np.uint8)
    weights = None if importances is None else importances.ctypes.data
    written = ggml.ggml_quantize_chunk(kind, source.ctypes.data, blocks.ctypes.data, 0, rows, columns, weights)
    assert written == blocks.size, f"{name}: llama.cpp wrote {written} bytes of {blocks.size}"
    return blocks


def ours(name, source, importances, folder):
    source.tofile(folder / "source.f32")
    command = [ENCODE, name, folder / "source.f32", folder / "blocks.bin"]
    if importances is not None:
        importances.tofile(folder / "importances.f32")
        command.append(folder / "importances.f32")
    subprocess.run(command, check=True)
    return np.fromfile(folder / "blocks.bin", np.uint8)


def decoded(ggml, name, blocks):
    _, elements, size = FORMATS[name]
    values = np.zeros(blocks.size // size * elements, np.float32)
    decode = getattr(ggml, "dequantize_row_" + (name if name.endswith("_K") else name.lower()).replace("Q", "q", 1))
    decode.argtypes, decode.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    decode(blocks.ctypes.data, values.ctypes.data, values.size)
    return values


def error(source, values, weights):
    difference = values.reshape(source.shape).astype(np.float64) - source
    return float(np.sqrt((weights * difference**2).sum() / (weights * source.astype(np.float64) ** 2).sum()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    if not ENCODE.exists():
        sys.exit(f"{ENCODE} is missing: cargo build --release -p metallic-tensor --example encode")
    ggml, random = library(), np.random.default_rng(a.seed)
    shape = (a.rows, a.columns)
    sources = [random.standard_normal(shape).astype(np.float32), random.standard_t(4, shape).astype(np.float32)]
    importances = (random.standard_normal(a.columns) ** 2 + 0.01).astype(np.float32)
    print("| type | normal | heavy tails | normal, importances | heavy tails, importances | worst ratio |")
    print("|---|---|---|---|---|---|", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in a.formats or FORMATS:
            cells, worst = [], 0.0
            for weights in (None, importances):
                for source in sources:
                    pair = []
                    for blocks in (ours(name, source, weights, Path(folder)), theirs(ggml, name, source, weights)):
                        values = decoded(ggml, name, blocks)
                        pair.append(error(source, values, 1.0 if weights is None else weights))
                    cells.append(f"{pair[0]:.4f} / {pair[1]:.4f}")
                    worst = max(worst, pair[0] / pair[1])
            print(f"| {name} | {' | '.join(cells)} | {worst:.3f} |", flush=True)
            failed |= worst > 1.01
    sys.exit(failed)


if __name__ == "__main__":
    main()
