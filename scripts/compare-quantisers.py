#!/usr/bin/env python3
"""Re-quantises a model with `metallic quantize` and with llama.cpp's quantiser, and compares the perplexities.

    scripts/compare-quantisers.py MODEL.gguf TEXT [--imatrix FILE.gguf] [--ctx 512] [--types Q4_K_M,Q6_K,…]
    scripts/compare-quantisers.py MODEL.gguf --stories 40 …
    scripts/compare-quantisers.py MODEL.gguf --stories 40 --divergence …

Prints one Markdown row for each type, on standard output, as it is measured. Both files of a type are measured by
`metallic perplexity`, loaded by llama.cpp and read by the Python package gguf. Exits with 1 if a file of ours does not
load, or if its perplexity is over llama.cpp's by more than 1 %.

With --stories the text is what MODEL itself tells (seeds 1 to N, temperature 1, no truncation): then the perplexity of
a quantised file differs from the source's by the divergence of the two, and chance in the text matters little.

--divergence says how little: it adds the mean Kullback-Leibler divergence of the source's next token from each file's,
in nats, and the difference of both with its standard error over the tokens. llama.cpp computes these logits; memory
holds the source's for the whole text, four bytes for each token and word of the vocabulary.

Needs `cargo build --release` and `pip install llama-cpp-python==0.3.36 gguf==0.19.0 numpy`.
"""
import argparse, ctypes, json, os, subprocess, sys, tempfile

import gguf
import llama_cpp
import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
METALLIC = os.path.join(ROOT, "target/release/metallic")

# llama.cpp's names and ids of file types (llama.h).
FILE_TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8,
    "Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "Q3_K_L": 13, "Q3_K_M": 12,
    "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23, "Q2_K": 10, "Q2_K_S": 21, "IQ2_M": 29,
    "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19, "IQ1_M": 31, "IQ1_S": 24, "TQ2_0": 37, "TQ1_0": 36, "Q2_0": 41,
    "Q1_0": 40,
}


def metallic(*arguments):
    """Runs our command and returns its JSON, or the error that it told."""
    done = subprocess.run([METALLIC, *arguments, "--json"], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    return json.loads(done.stderr.strip().splitlines()[-1])


def perplexity(model, text, ctx):
    """Perplexity of a file, or the error."""
    answer = metallic("perplexity", model, "-f", text, "--ctx-size", str(ctx))
    return answer.get("perplexity"), answer.get("error")


def theirs(source, target, name, imatrix):
    """llama.cpp's quantiser. Returns whether it worked: it refuses some types without an importance matrix."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[name]
    parameters.allow_requantize = True
    kept = []
    if imatrix:
        rows = importances(imatrix)
        table = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()
        for row, (tensor, values) in zip(table, rows.items()):
            numbers = (ctypes.c_float * len(values))(*values)
            kept.append(numbers)
            row.name, row.size = tensor.encode(), len(values)
            row.data = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = ctypes.cast(table, type(parameters.imatrix))
    return llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)) == 0


def importances(path):
    """Means of squared inputs by tensor, from an importance matrix in GGUF."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    rows = {}
    for name in tensors:
        if name.endswith(".in_sum2"):
            weight = name.removesuffix(".in_sum2")
            rows[weight] = (tensors[name].reshape(-1) / tensors[weight + ".counts"].reshape(-1)[0]).tolist()
    return rows


def loads(path):
    """Whether llama.cpp loads the file and computes with it, and the Python reader reads it."""
    kinds(path)
    parameters = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        return False
    context_parameters = llama_cpp.llama_context_default_params()
    context_parameters.n_ctx = 64
    context = llama_cpp.llama_init_from_model(model, context_parameters)
    tokens = (ctypes.c_int * 4)(1, 2, 3, 4)
    decoded = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 4)) == 0
    logit = llama_cpp.llama_get_logits_ith(context, -1)[0] if decoded else float("nan")
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return decoded and logit == logit


def log_probabilities(path, text, ctx):
    """For each whole chunk of `ctx` tokens the logarithms of what comes next, (tokens, vocabulary), by llama.cpp."""
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = ctx
    context = llama_cpp.llama_init_from_model(model, parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    with open(text, "rb") as file:
        content = file.read()
    ids = (ctypes.c_int * (len(content) + 8))()
    count = llama_cpp.llama_tokenize(vocabulary, content, len(content), ids, len(ids), True, False)
    batch = llama_cpp.llama_batch_init(ctx, 0, 1)
    for first in range(0, count - ctx + 1, ctx):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch.n_tokens = ctx
        for place in range(ctx):
            batch.token[place], batch.pos[place] = ids[first + place], place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
        assert llama_cpp.llama_decode(context, batch) == 0
        logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (ctx, size)).copy()
        logits -= logits.max(1, keepdims=True)
        logits -= numpy.log(numpy.exp(logits).sum(1, keepdims=True))
        yield logits
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def divergences(source, path, text, ctx):
    """The divergence of the source from a file, token by token."""
    chunks = zip(source, log_probabilities(path, text, ctx))
    return numpy.concatenate([(numpy.exp(one) * (one - other)).sum(1) for one, other in chunks])


def difference(source, ours, theirs, text, ctx):
    """Both divergences, and how far they are apart, as cells of the table."""
    mine, other = (divergences(source, path, text, ctx) for path in (ours, theirs))
    apart = mine - other
    noise = apart.std() / len(apart) ** 0.5
    return f" {mine.mean():.4f} | {other.mean():.4f} | {apart.mean():+.4f} ± {noise:.4f} |"


def kinds(path):
    """The format of each tensor; nothing for a file with Q2_0, which the Python reader does not know yet."""
    try:
        return {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}
    except ValueError as error:
        if "is not a valid GGMLQuantizationType" not in str(error):
            raise
        return {}


def stories(model, count, folder):
    """A text that the model tells."""
    path = os.path.join(folder, "stories.txt")
    openings = ["Once upon a time", "There was once", "In a dark forest", "A king had", "The old woman said"]
    with open(path, "w") as text:
        for seed in range(1, count + 1):
            opening = openings[seed % len(openings)]
            command = [METALLIC, "run", model, "-p", opening, "--seed", str(seed), "-n", "400", "--temp", "1",
                       "--top-k", "0", "--top-p", "1", "--min-p", "0", "-q"]
            text.write(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() + "\n\n")
    return path


def main():
    global METALLIC
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", nargs="?")
    parser.add_argument("--stories", type=int)
    parser.add_argument("--imatrix")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--divergence", action="store_true")
    parser.add_argument("--metallic", default=METALLIC, help="another binary")
    parser.add_argument("--types", default=",".join(FILE_TYPES))
    options = parser.parse_args()
    METALLIC = options.metallic
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        text = stories(options.model, options.stories, folder) if options.stories else options.text
        if not text:
            parser.error("give a text or --stories")
        source, _ = perplexity(options.model, text, options.ctx)
        original = list(log_probabilities(options.model, text, options.ctx)) if options.divergence else None
        print(f"| as it is | {os.path.getsize(options.model) / 1e6:.2f} MB | {source:.4f} | | |", flush=True)
        for name in options.types.split(","):
            ours, reference = os.path.join(folder, "ours.gguf"), os.path.join(folder, "theirs.gguf")
            matrix = ["--imatrix", options.imatrix] if options.imatrix else []
            answer = metallic("quantize", options.model, ours, name, "--allow-requantize", "-q", *matrix)
            if "error" in answer:
                print(f"| {name} | | {answer['error']['kind']} | | |", flush=True)
                failed = True
                continue
            measured, error = perplexity(ours, text, options.ctx)
            row = f"| {name} | {os.path.getsize(ours) / 1e6:.2f} MB | {measured or error['kind']} |"
            if measured:
                row = f"| {name} | {os.path.getsize(ours) / 1e6:.2f} MB | {measured:.4f} |"
            if not loads(ours):
                row, failed = row + " does not load in llama.cpp |", True
            elif not theirs(options.model, reference, name, options.imatrix):
                row += " refused |  |"
            else:
                compared, _ = perplexity(reference, text, options.ctx)
                if measured and compared:
                    change = 100 * (measured / compared - 1)
                    row += f" {compared:.4f} | {change:+.2f} % |"
                    if original:
                        row += difference(original, ours, reference, text, options.ctx)
                    if kinds(ours) != kinds(reference):
                        row += " other formats than llama.cpp's"
                    failed = failed or change > 1 or kinds(ours) != kinds(reference)
            print(row, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
