#!/usr/bin/env python3
"""Encodes the same documents with metallic and gigatoken in turn (A B A B …) on one core, and prints the ratios.

    tools/compare_gigatoken.py VOCABULARY.gguf TEXT.txt [TEXT.txt …] [-r 5]

Needs `cargo build --release -p metallic-text --examples`, and the PyPI packages `gigatoken==0.10.0` and `gguf`. The
vocabulary is a file of byte-level BPE with Qwen2's rules; gigatoken gets its tokens and merges as a tokenizer.json.

Texts are cut into documents of 20 KB, as the example `encode_speed` does. Cold: the first pass over all documents of a
tokenizer that has seen nothing but one letter; warm: later passes. Each round makes five cold passes and fifty warm ones
on either side; medians over the rounds of the best pass, and the best of all, are printed. gigatoken gets all documents
in one call, as bytes.
Before anything is measured, the ids of all documents must be equal.
"""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile, time

WORKER = "--gigatoken-worker"
DOCUMENT_BYTES = 20_000
COLD_RUNS, WARM_PASSES = 5, 10
# The split that Qwen2's own tokenizer.json asks for.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_json(vocabulary):
    """The vocabulary as gigatoken reads it. Without a normaliser: GGUF files have none either."""
    import gguf

    fields = gguf.GGUFReader(vocabulary).fields
    strings = lambda key: [bytes(fields[key].parts[at]).decode() for at in fields[key].data]
    tokens = strings("tokenizer.ggml.tokens")
    types = [int(fields["tokenizer.ggml.token_type"].parts[at][0]) for at in fields["tokenizer.ggml.token_type"].data]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ordinary = {token: at for at, token in enumerate(tokens) if types[at] == 1}
    added = [{"id": at, "content": token, **flags} for at, token in enumerate(tokens) if types[at] == 3]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": ordinary, "merges": strings("tokenizer.ggml.merges"),
    }
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None, "decoder": byte_level, "model": model,
    })


def documents(path):
    data, cuts = open(path, "rb").read(), []
    while data:
        end = min(DOCUMENT_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        cuts.append(data[:end])
        data = data[end:]
    return cuts


def gigatoken_worker(config, path):
    """Prints the best cold and warm rates in MB/s and the process's memory in MiB."""
    import gigatoken, resource

    config, texts = open(config).read(), documents(path)
    size = sum(map(len, texts)) / 1e6

    def seconds(tokenizer):
        start = time.perf_counter()
        tokenizer.encode_batch(texts, parallel=False)
        return time.perf_counter() - start

    cold, warm = [], []
    for _ in range(COLD_RUNS):
        tokenizer = gigatoken.Tokenizer.from_json(config)
        tokenizer.encode_batch([b"a"], parallel=False)  # builds tables that are no cache of words
        cold.append(seconds(tokenizer))
        warm += [seconds(tokenizer) for _ in range(WARM_PASSES)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"cold": size / min(cold), "warm": size / min(warm), "memory": memory}))


def pinned(command, core, **options):
    pin = (lambda: os.sched_setaffinity(0, {core})) if hasattr(os, "sched_setaffinity") else None
    return subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=pin, **options).stdout


def ours(examples, vocabulary, path, core):
    return json.loads(pinned([os.path.join(examples, "encode_speed"), vocabulary, path, "--json"], core))


def assert_same_ids(examples, vocabulary, config, path):
    import gigatoken

    texts = documents(path)
    lines = "".join(json.dumps(text.decode()) + "\n" for text in texts)
    out = subprocess.run([os.path.join(examples, "encode_lines"), vocabulary], input=lines, check=True, capture_output=True, text=True).stdout
    mine = [json.loads(line)["ids"] for line in out.splitlines()]
    theirs = gigatoken.Tokenizer.from_json(open(config).read()).encode_batch_list(texts, parallel=False)
    if mine != theirs:
        at = next(i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b)
        sys.exit(f"{path}: document {at} has other ids")
    return sum(map(len, mine))


def main():
    if len(sys.argv) > 1 and sys.argv[1] == WORKER:
        return gigatoken_worker(sys.argv[2], sys.argv[3])
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("vocabulary")
    ap.add_argument("texts", nargs="+")
    ap.add_argument("-r", "--rounds", type=int, default=5)
    ap.add_argument("--core", type=int, default=0)
    release = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "target", "release", "examples")
    ap.add_argument("--examples", default=release)
    a = ap.parse_args()
    print(f"{platform.processor() or platform.machine()}, core {a.core}, gigatoken 0.10.0")
    print("| text | MB | tokens | what | metallic | best | gigatoken | best | ratio | of best |\n|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "tokenizer.json")
        open(config, "w").write(tokenizer_json(a.vocabulary))
        for path in a.texts:
            tokens = assert_same_ids(a.examples, a.vocabulary, config, path)
            mine, theirs = [], []
            for _ in range(a.rounds):
                mine.append(ours(a.examples, a.vocabulary, path, a.core))
                theirs.append(json.loads(pinned([sys.executable, __file__, WORKER, config, path], a.core)))
            size = os.path.getsize(path) / 1e6
            for what, unit in (("cold", "MB/s"), ("warm", "MB/s"), ("memory", "MiB")):
                us, them = (statistics.median(run[what] for run in runs) for runs in (mine, theirs))
                best, their_best = (max(run[what] for run in runs) for runs in (mine, theirs))
                cells = [f"{us:.0f} {unit}", f"{best:.0f}", f"{them:.0f} {unit}", f"{their_best:.0f}", f"{us / them:.2f}", f"{best / their_best:.2f}"]
                row = [os.path.basename(path), f"{size:.1f}", tokens, what, *cells]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
