#!/usr/bin/env python3
"""Runs metallic and llama.cpp in turn (A B A B …) on the same file, threads and lengths, and prints the ratios.

    tools/compare_llama_cpp.py MODEL.gguf [MODEL.gguf …] [-t 1,2] [-p 256] [-n 48] [-s 8] [-r 5]

Needs a release build (`cargo build --release`) and the PyPI package `llama-cpp-python`, built from source with its
native flags: `CMAKE_ARGS=-DGGML_NATIVE=ON python3 -m pip install llama-cpp-python==0.3.36`.

Both engines get one prompt of -p tokens from an empty context, then -n single-token passes behind 16 tokens, then with
-s as many passes over one token of each of so many sequences, from empty contexts and with logits for all.
llama.cpp runs with its defaults (f16 KV, repacking, mmap), once with flash attention and once without: the better of
the two counts, and is named. Medians over the rounds are printed; quote them with the machine and both versions.
Loading ends when the first pass may start; metallic's bench then waits until weights are repacked, as llama.cpp has done
by then, before it measures.
"""
import argparse, ctypes, json, os, platform, statistics, subprocess, sys, time

WORKER = "--llama-worker"


def llama_worker(model, threads, prompt, generated, sequences, flash):
    """One llama.cpp process: loads, warms up, then measures once for each line it is sent."""
    import llama_cpp as L

    null_log = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(null_log, ctypes.c_void_p(0))
    L.llama_backend_init()
    start = time.perf_counter()
    handle = L.llama_model_load_from_file(model.encode(), L.llama_model_default_params())
    p = L.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch = max(1024, prompt + generated + 64), 2048, 512
    p.n_threads = p.n_threads_batch = threads
    p.flash_attn_type = 1 if flash else 0
    ctx = L.llama_init_from_model(handle, p)
    load_ms = (time.perf_counter() - start) * 1e3
    memory = L.llama_get_memory(ctx)

    def decode(ids):
        array = (L.llama_token * len(ids))(*ids)
        if L.llama_decode(ctx, L.llama_batch_get_one(array, len(ids))) != 0:
            sys.exit("llama_decode failed")
        L.llama_get_logits(ctx)

    def context_of_many():
        p.n_ctx, p.n_seq_max, p.kv_unified = max(1024, sequences * (generated + 64)), sequences, True
        return L.llama_init_from_model(handle, p), L.llama_batch_init(sequences, 0, 1)

    many, batch = context_of_many() if sequences > 1 else (None, None)

    def decode_together():
        L.llama_memory_clear(L.llama_get_memory(many), True)
        batch.n_tokens = sequences
        t = time.perf_counter()
        for i in range(generated):
            for s in range(sequences):
                batch.token[s], batch.pos[s], batch.logits[s] = ((s + i) * 7919 + 13) % 30000, i, 1
                batch.n_seq_id[s], batch.seq_id[s][0] = 1, s
            if L.llama_decode(many, batch) != 0:
                sys.exit("llama_decode failed")
            L.llama_get_logits(many)
        return sequences * generated / (time.perf_counter() - t)

    def measure():
        L.llama_memory_clear(memory, True)
        ids = [(i * 7919 + 13) % 30000 for i in range(prompt)]
        t = time.perf_counter()
        decode(ids)
        prefill = prompt / (time.perf_counter() - t)
        L.llama_memory_clear(memory, True)
        decode(ids[:16])
        t = time.perf_counter()
        for i in range(generated):
            decode([(i * 31) % 30000])
        decode_rate = generated / (time.perf_counter() - t)
        together = decode_together() if sequences > 1 else None
        return {"prefill": prefill, "decode": decode_rate, "together": together, "load_ms": load_ms}

    measure()
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


class Llama:
    def __init__(self, model, a, threads, flash):
        numbers = [threads, a.prompt, a.generated, a.sequences, int(flash)]
        command = [sys.executable, __file__, WORKER, model, *map(str, numbers)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def bench(binary, model, threads, *flags):
    command = [binary, "bench", model, "-t", str(threads), "-r", "1", "--json", *map(str, flags)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def metallic(binary, model, a, threads):
    out = bench(binary, model, threads, "-p", a.prompt, "-n", a.generated)
    rates = {"prefill": out["prefill_tok_s"]["median"], "decode": out["decode_tok_s"]["median"], "load_ms": out["load_ms"]}
    if a.sequences > 1:
        together = bench(binary, model, threads, "-p", 0, "-n", a.generated, "-s", a.sequences)
        rates["together"] = together["decode_tok_s"]["median"]
    return rates


def main():
    if len(sys.argv) > 1 and sys.argv[1] == WORKER:
        return llama_worker(sys.argv[2], *map(int, sys.argv[3:8]))
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("-t", "--threads", default="1,2")
    ap.add_argument("-p", "--prompt", type=int, default=256)
    ap.add_argument("-n", "--generated", type=int, default=48)
    ap.add_argument("-s", "--sequences", type=int, default=1)
    ap.add_argument("-r", "--rounds", type=int, default=5)
    ap.add_argument("--binary", default=os.path.join(os.path.dirname(__file__), "..", "target", "release", "metallic"))
    a = ap.parse_args()
    import llama_cpp

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, llama-cpp-python {llama_cpp.__version__}")
    print("| model | threads | what | metallic | llama.cpp | ratio |\n|---|---|---|---|---|---|")
    for model in a.models:
        for threads in map(int, a.threads.split(",")):
            rivals = {"fa": Llama(model, a, threads, True), "no fa": Llama(model, a, threads, False)}
            ours, theirs = [], {name: [] for name in rivals}
            for _ in range(a.rounds):
                ours.append(metallic(a.binary, model, a, threads))
                for name, rival in rivals.items():
                    theirs[name].append(rival.measure())
            for rival in rivals.values():
                rival.close()
            together = [("together", False)] if a.sequences > 1 else []
            for what, lower in (("prefill", False), ("decode", False), *together, ("load_ms", True)):
                us = statistics.median(r[what] for r in ours)
                medians = {name: statistics.median(r[what] for r in runs) for name, runs in theirs.items()}
                name = (min if lower else max)(medians, key=medians.get)
                ratio = medians[name] / us if lower else us / medians[name]
                unit = "ms" if lower else "tok/s"
                label = {"load_ms": "load", "together": f"decode, {a.sequences} sequences"}.get(what, what)
                print(f"| {os.path.basename(model)} | {threads} | {label} | {us:.1f} {unit} | {medians[name]:.1f} ({name}) | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
