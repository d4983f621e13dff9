#!/usr/bin/env python3
"""Compare our tokens with llama.cpp's on random texts: every vocabulary file, and every pre-tokenizer over one of them.

    scripts/real-models.sh --vocabularies
    pip install llama-cpp-python==0.3.36
    cargo build --release -p metallic-text --example encode_lines
    scripts/compare-tokenizers.py FOLDER [--texts 2000] [--seed 1] [--only NAME] [--pre-over ggml-vocab-qwen2.gguf]

Prints a line for each vocabulary and each pre-tokenizer, and the first differences; exits with 1 if there are any.
llama.cpp runs in a process of its own with a time limit: some of its patterns need very long for some texts.
"""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ROOT / "target/release/examples/encode_lines"
SECONDS_MAX = 300
# Written with U+2581 for spaces, which a byte-level vocabulary is not.
NOT_BYTE_LEVEL = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"}

THEIRS = r"""
import json, sys
import llama_cpp
from llama_cpp import llama_model_default_params, llama_model_load_from_file, llama_model_get_vocab
model, pre = sys.argv[1], sys.argv[2]
# Kept in a variable: the library holds only its address.
silent = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(silent, None)
params = llama_model_default_params()
params.vocab_only = True
if pre:
    import ctypes
    overrides = (llama_cpp.llama_model_kv_override * 2)()
    overrides[0].key = b"tokenizer.ggml.pre"
    overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
    address = ctypes.addressof(overrides[0]) + type(overrides[0]).value.offset
    ctypes.memmove(address, pre.encode() + b"\0", len(pre) + 1)
    params.kv_overrides = overrides
loaded = llama_model_load_from_file(model.encode(), params)
if not loaded:
    sys.exit("it does not load")
vocab = llama_model_get_vocab(loaded)
def encode(text, special):
    data = text.encode()
    ids = (llama_cpp.llama_token * (4 * len(data) + 16))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), special, special)
    assert count >= 0
    return list(ids[:count])
for line in sys.stdin:
    text = json.loads(line)
    print(json.dumps([encode(text, False), encode(text, True)]), flush=True)
"""


def texts(count, seed, special):
    """Words, numbers, punctuation, white space and characters of every kind, in any order."""
    rnd = random.Random(seed)
    spaces = [" ", " ", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u2003", "\u0085"]
    words = ("the Don't WE'VE it'S x's I'll 'tis HELLO HelloWorld iPhone éÉa ÀB naïve Straße ΑΒγ Привет МИР 日本語 "
             "カタカナ 한국어 हिन्दी नमस्ते ไทย ខ្មែរ עברית العربية é 🦀👩‍👧 1️⃣ ... !? $5 a_b <x> a+b ^^ || ~~ `q` -- "
             "1 12 123 1234 12345 1234567 3.14 ½Ⅷ² ٣٤٥ 1٣4 ﬁ ™ （全角）！ “quoted” — … ， 。 ؟ ، । IMGIMGABCZ "
             "<sentinel:12> http://a.b/c?d=e /* x */ // foo(bar); {} [] \\n _ __ # @").split()
    ranges = [(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xe80),
              (0x1000, 0x1100), (0x1100, 0x1200), (0x2000, 0x2070), (0x2100, 0x2200), (0x3000, 0x3130),
              (0x4e00, 0x5000), (0xac00, 0xae00), (0xff00, 0xfff0), (0x1f300, 0x1f650), (0x1, 0x20)]

    def character():
        if rnd.random() < 0.02:
            point = rnd.randrange(0x20, 0x110000)
            return chr(point) if not 0xd800 <= point < 0xe000 else "x"
        first, end = rnd.choice(ranges)
        return chr(rnd.randrange(first, end))

    def part():
        kind = rnd.random()
        if kind < 0.4:
            return rnd.choice(words)
        if kind < 0.7:
            return "".join(rnd.choice(spaces) for _ in range(rnd.randrange(1, 3)))
        if kind < 0.74 and special:
            return rnd.choice(special)
        return "".join(character() for _ in range(rnd.randrange(1, 6)))

    return ["".join(part() for _ in range(rnd.randrange(1, 12))) for _ in range(count)]


def run(command, lines):
    """Standard output's lines; as many as there were when the time was up or the program died."""
    stdin = "".join(json.dumps(line) + "\n" for line in lines).encode()
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS_MAX)
        out = done.stdout
        why = f"exit {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        out, why = late.stdout or b"", "time is up"
    # A program that aborts may write about that to standard output.
    return [json.loads(line) for line in out.split(b"\n")[:-1] if line[:1] in (b"[", b"{")], why


def compare(model, pre, lines):
    ours, our_trouble = run([str(OURS), str(model)] + ([pre] if pre else []), lines)
    theirs, their_trouble = run([sys.executable, "-c", THEIRS, str(model), pre], lines)
    different = []
    for text, a, b in zip(lines, ours, theirs):
        if a["ids"] != b[0]:
            different.append((text, a["ids"], b[0]))
        elif a["ids_special"] != b[1]:
            different.append((text, a["ids_special"], b[1]))
    compared = min(len(ours), len(theirs))
    name = f"{model.name} {pre}".strip()
    print(f"{name}: {compared - len(different)} of {compared} equal", our_trouble, their_trouble, flush=True)
    for text, a, b in different[:3]:
        print(f"  {text!r}\n    ours   {a}\n    theirs {b}", flush=True)
    return not different and compared > 0 and not our_trouble


def pre_names():
    table = (ROOT / "crates/text/src/pretokenize/table.rs").read_text()
    return re.findall(r'row\("([^"]+)"', table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="vocabularies or pre-tokenizers whose name holds this")
    parser.add_argument("--pre-over", default="ggml-vocab-qwen2.gguf")
    args = parser.parse_args()
    special = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "[CLS]", "[MASK]", "<bos>", "<|end|>"]
    lines = texts(args.texts, args.seed, special)
    fine = True
    for model in sorted(args.folder.glob("ggml-vocab-*.gguf")):
        if args.only in model.name:
            fine &= compare(model, "", lines)
    for pre in pre_names():
        if args.only in pre and pre not in NOT_BYTE_LEVEL:
            fine &= compare(args.folder / args.pre_over, pre, lines)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
