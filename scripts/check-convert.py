#!/usr/bin/env python3
"""Makes tiny random Hugging Face checkpoints with transformers, converts them with `metallic convert`, and compares the
logits of the result with those of transformers, in f32 on the CPU. Exits with 1 where one differs by more than 2e-4.

    scripts/check-convert.py                       all cases, in a scratch folder
    scripts/check-convert.py --fixtures FOLDER     write the small cases with their expected logits there

Also asks llama.cpp for its logits on the same file, and compares token ids of some texts with those of the packages
tokenizers and sentencepiece. Needs `cargo build --release` and `pip install torch transformers==5.24.0 sentencepiece llama-cpp-python==0.3.36`.
"""
import argparse, ctypes, json, os, subprocess, sys, tempfile

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
METALLIC = os.path.join(ROOT, "target/release/metallic")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
TEXTS = ["Hello world, it's 2024!", "  two  spaces\nand\ttabs", "naïve Größe 你好 🦀", "the theme of the thing", "a\n\n b"]
TOKENS = [1, 5, 9, 200, 3, 77, 12, 12, 150, 33, 4, 91]
CORPUS = ["the quick brown fox jumps over the lazy dog", "it is the theme of the thing that they think", "hello world 2024"]
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"


def byte_level(pattern, bos):
    """A byte-level BPE tokenizer with few merges."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pattern == LLAMA3))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<tool>"])
    if bos:
        pair = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing("<|endoftext|> $A", special_tokens=[pair])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|endoftext|>" if bos else None)


def sentence_piece(prefix):
    """A tokenizer as those of Llama 2 (with a space in front) and Gemma (without) are written."""
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {token: index for index, token in enumerate(special + [f"<0x{byte:02X}>" for byte in range(256)])}
    merges = []
    for left, right in [("t", "h"), ("th", "e"), ("▁", "t"), ("▁", "the"), ("i", "n"), ("▁t", "he"), ("o", "r")]:
        for token in (left, right, left + right):
            vocabulary.setdefault(token, len(vocabulary))
        merges.append((left, right))
    for letter in "▁abcdefghijklmnopqrstuvwxyzH,'!":
        vocabulary.setdefault(letter, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")


SMALL = dict(hidden_size=16, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)
GEMMA = dict(SMALL, head_dim=8, sliding_window=4, query_pre_attn_scalar=8)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=16)

# name: class of the configuration, its settings, tokenizer, type of the weights, bytes of a shard
CASES = {
    "llama": ("Llama", dict(SMALL, num_hidden_layers=2, tie_word_embeddings=False), lambda: sentence_piece(True), "bfloat16", None),
    "qwen2": ("Qwen2", dict(SMALL, num_hidden_layers=2, tie_word_embeddings=True), lambda: byte_level(QWEN2, False), "bfloat16", 12_000),
    "qwen3": ("Qwen3", dict(SMALL, num_hidden_layers=2, head_dim=8, tie_word_embeddings=False), lambda: byte_level(QWEN2, False), "float16", None),
    "gemma": ("Gemma", dict(SMALL, num_hidden_layers=2, head_dim=8), lambda: sentence_piece(False), "bfloat16", None),
    "gemma2": ("Gemma2", dict(GEMMA, num_hidden_layers=2), lambda: sentence_piece(False), "bfloat16", None),
    "gemma3": ("Gemma3Text", dict(GEMMA, num_hidden_layers=7), lambda: sentence_piece(False), "bfloat16", None),
    # Not among the fixtures.
    "llama3-rope": ("Llama", dict(SMALL, num_hidden_layers=2, rope_parameters=LLAMA3_ROPE), lambda: byte_level(LLAMA3, True), "float32", None),
    "llama-tied-bias": ("Llama", dict(SMALL, num_hidden_layers=3, tie_word_embeddings=True, attention_bias=True), lambda: byte_level(LLAMA3, True), "float32", 16_000),
    "llama-linear": ("Llama", dict(SMALL, num_hidden_layers=2, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=5000.0)), lambda: byte_level(QWEN2, False), "float32", None),
    "qwen2-yarn": ("Qwen2", dict(SMALL, num_hidden_layers=2, rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=1e6, original_max_position_embeddings=32)), lambda: byte_level(QWEN2, False), "float32", None),
    "gemma3-other-pattern": ("Gemma3Text", dict(GEMMA, num_hidden_layers=4, layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"]), lambda: sentence_piece(False), "float32", None),
    "llama-pieces": ("Llama", dict(SMALL, num_hidden_layers=2), lambda: "pieces", "float32", None),
    "mistral": ("Mistral", dict(SMALL, num_hidden_layers=2, sliding_window=None, head_dim=16), lambda: sentence_piece(True), "float32", None),
}
FIXTURES = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"]


def pieces(folder):
    """Trains a SentencePiece model, which is then the folder's only tokenizer."""
    import sentencepiece
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "corpus.txt"), "w") as corpus:
        corpus.write("\n".join(CORPUS))
    sentencepiece.SentencePieceTrainer.train(
        input=os.path.join(folder, "corpus.txt"), model_prefix=os.path.join(folder, "tokenizer"), vocab_size=310,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))


def make(name, folder):
    """Writes a checkpoint and returns what transformers computes with it."""
    kind, settings, tokenizer, dtype, shard = CASES[name]
    tokenizer = tokenizer()
    tokenizer, special = (pieces(folder), None) if tokenizer == "pieces" else tokenizer
    torch.manual_seed(len(name) + settings["num_hidden_layers"])
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer) if special is None else tokenizer.get_vocab_size(), initializer_range=0.3, **settings)
    model = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("norm.weight"):
                value.add_(torch.randn_like(value) * 0.2)
            if key.endswith("bias"):
                value.copy_(torch.randn_like(value) * 0.2)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    if special is None:
        return logits_of(model, folder), [tokenizer.encode(text) for text in TEXTS]
    special = {key: value for key, value in special.items() if value}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    logits = logits_of(model, folder)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    return logits, ids


def logits_of(model, folder):
    """What the checkpoint computes: (positions, vocabulary)."""
    # Loaded anew, since rounding the model rounded its rotary frequencies too.
    model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0]


def ours(*arguments, text=None):
    done = subprocess.run([METALLIC, *arguments], capture_output=True, text=True, input=text)
    if done.returncode != 0:
        sys.exit(f"metallic {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def llama_cpp_logits(path, rows, columns):
    """Logits of llama.cpp for the same tokens, or None where the package is not there."""
    try:
        import llama_cpp
    except ImportError:
        return None
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama = llama_cpp.Llama(path, n_ctx=64, logits_all=True, verbose=False)
    llama.eval(TOKENS)
    logits = torch.tensor(llama.scores[:rows])
    llama.close()
    return logits


def check(name, folder):
    """Whether our file says the same."""
    expected, ids = make(name, folder)
    path = os.path.join(folder, "model.gguf")
    converted = json.loads(ours("convert", folder, path, "--json"))
    answer = json.loads(ours("logits", path, "--tokens", ",".join(map(str, TOKENS)), "--all", "--top", "100000",
                             "--device", "reference", "--json"))
    worst = 0.0
    for row, position in zip(expected, answer["positions"]):
        for token, logit in position["top"]:
            worst = max(worst, abs(row[token].item() - logit))
    lines = ours("tokenize", path, "--jsonl", "-", "--json", text="".join(json.dumps(text) + "\n" for text in TEXTS))
    found = [json.loads(line) for line in lines.splitlines()]
    found = [line["ids"] if isinstance(line, dict) else line for line in found]
    same = found == ids
    theirs = llama_cpp_logits(path, len(TOKENS), expected.shape[1])
    distance = (theirs - expected).abs().max().item() if theirs is not None else float("nan")
    good = worst < 2e-4 and same and len(answer["positions"]) == len(TOKENS)
    print(f"{name:22} {'ok' if good else 'WRONG'}: logits differ by {worst:.1e} at most (largest {expected.abs().max():.1f}), "
          f"llama.cpp's by {distance:.1e}; token ids {'agree' if same else f'{found} {ids}'}; {converted['notes']}")
    return good


def write_fixtures(target):
    """The small cases, with the logits of the last position."""
    for name in FIXTURES:
        folder = os.path.join(target, name)
        logits, ids = make(name, folder)
        expected = {"tokens": TOKENS, "logits": [round(value, 5) for value in logits[-1].tolist()], "texts": TEXTS, "ids": ids}
        with open(os.path.join(folder, "expected.json"), "w") as out:
            json.dump(expected, out)
        os.remove(os.path.join(folder, "generation_config.json"))
        for file in os.listdir(folder):
            if file.endswith((".json", ".jinja")):
                with open(os.path.join(folder, file), "r+") as text:
                    if not text.read().endswith("\n"):
                        text.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures")
    parser.add_argument("cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.fixtures:
        return write_fixtures(options.fixtures)
    with tempfile.TemporaryDirectory() as scratch:
        good = [check(name, os.path.join(scratch, name)) for name in options.cases]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
