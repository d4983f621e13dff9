#!/usr/bin/env python3
"""Asks llama.cpp's quantiser which format each tensor of some small models gets, for every type of file, and writes the
answers to crates/tools/tests/fixtures/mixes.json. Needs `pip install llama-cpp-python==0.3.36 gguf==0.19.0`.

A list of formats is written with counts, `F32*2 Q4_K*7`, in the order of the model's tensors.
"""
import ctypes, importlib.util, itertools, json, os, tempfile

import gguf
import llama_cpp
import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
spec = importlib.util.spec_from_file_location("compare", os.path.join(ROOT, "scripts/compare-quantisers.py"))
compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)

# architecture, layers, columns, feed-forward width, heads, key and value heads, experts, whether the output is tied
MODELS = {
    "llama-grouped": ("llama", 16, 256, 512, 4, 1, 0, False),
    "qwen2-tied": ("qwen2", 9, 256, 512, 4, 2, 0, True),
    "llama-odd-rows": ("llama", 8, 576, 1536, 9, 3, 0, True),
    "llama-experts": ("llama", 8, 256, 256, 4, 1, 8, False),
    "falcon": ("falcon", 16, 256, 512, 4, 1, 0, False),
}


def tensors(architecture, layers, columns, width, _heads, _kv_heads, experts, tied):
    """Names and shapes, contiguous first. The rules look at rows' lengths only, so that two rows are enough."""
    yield "token_embd.weight", [columns, 2]
    for layer in range(layers):
        name = f"blk.{layer}."
        yield name + "attn_norm.weight", [columns]
        if architecture == "falcon":
            yield name + "attn_qkv.weight", [columns, 2]
            yield name + "attn_output.weight", [columns, 2]
            yield name + "ffn_up.weight", [columns, 2]
            yield name + "ffn_down.weight", [width, 2]
            continue
        yield name + "attn_q.weight", [columns, 2]
        yield name + "attn_k.weight", [columns, 2]
        yield name + "attn_v.weight", [columns, 2]
        yield name + "attn_output.weight", [columns, 2]
        yield name + "ffn_norm.weight", [columns]
        if experts:
            yield name + "ffn_gate_inp.weight", [columns, experts]
            yield name + "ffn_gate_exps.weight", [columns, 2, experts]
            yield name + "ffn_up_exps.weight", [columns, 2, experts]
            yield name + "ffn_down_exps.weight", [width, 2, experts]
        else:
            yield name + "ffn_gate.weight", [columns, 2]
            yield name + "ffn_up.weight", [columns, 2]
            yield name + "ffn_down.weight", [width, 2]
    yield "output_norm.weight", [columns]
    if not tied:
        yield "output.weight", [columns, 2]


def write(path, model):
    architecture, layers, columns, width, heads, kv_heads, experts, _ = model
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(columns)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(64)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    random = numpy.random.default_rng(1)
    for name, shape in tensors(*model):
        writer.add_tensor(name, random.normal(size=shape[::-1]).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_importance(path, model):
    """An importance matrix of ones."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, shape in tensors(*model):
        if len(shape) > 1:
            matrices = shape[2] if len(shape) > 2 else 1
            writer.add_tensor(name + ".in_sum2", numpy.ones((matrices, shape[0]), numpy.float32))
            writer.add_tensor(name + ".counts", numpy.ones((matrices, 1), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    compare.FILE_TYPES["MXFP4_MOE"] = 38
    # The reader of the package gguf does not know Q2_0 yet.
    names = [name for name in compare.FILE_TYPES if name != "Q2_0"]
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target, matrix = (os.path.join(folder, name) for name in ("in.gguf", "out.gguf", "matrix.gguf"))
        for label, model in MODELS.items():
            write(source, model)
            write_importance(matrix, model)
            shapes = list(tensors(*model))
            formats = {}
            for name, importance in itertools.product(names, (None, matrix)):
                if not compare.theirs(source, target, name, importance):
                    continue
                found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(target).tensors}
                runs = itertools.groupby(found[tensor] for tensor, _ in shapes)
                formats[name + ("+imatrix" if importance else "")] = " ".join(f"{kind}*{len(list(run))}" for kind, run in runs)
            architecture, layers, _, _, heads, kv_heads, experts, _ = model
            models[label] = {
                "architecture": architecture, "layers": layers, "heads": heads, "kv_heads": kv_heads, "experts": experts,
                "tensors": [[tensor, shape] for tensor, shape in shapes], "formats": formats,
            }
    with open(os.path.join(ROOT, "crates/tools/tests/fixtures/mixes.json"), "w") as out:
        out.write("{\n" + ",\n".join(f'"{label}": {json.dumps(model)}' for label, model in models.items()) + "\n}\n")


if __name__ == "__main__":
    main()
