#!/usr/bin/env python3
"""Train metallic-storyteller: a Qwen2-architecture decoder (qkv biases, GQA,
tied embeddings, RoPE theta 1e6) on plain stories and ChatML samples.

train.py DATA OUT [--name N] [--epochs E] [--seconds S] [--dropout P] [--cpu-test]
DATA holds plain.bin, chat*.bin, val.bin, valchat.bin (uint16) and tokenizer.json.
Saves OUT/NAME.{0,1}.safetensors (bf16, Hugging Face names, in two halves) at the
best validation loss.
"""
import argparse, json, math, os, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB, CTX = 4096, 1024
D, LAYERS, HEADS, KV, HD, FFN = 256, 10, 4, 2, 64, 768
THETA, EPS = 1e6, 1e-6
EOT, IM_START, IM_END = 4093, 4094, 4095


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, EPS).to(x.dtype)


def rope(x, cos, sin):  # x [B, H, T, HD], the two halves rotated (NeoX order)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(D), RMSNorm(D)
        self.q_proj = nn.Linear(D, HEADS * HD, bias=True)
        self.k_proj = nn.Linear(D, KV * HD, bias=True)
        self.v_proj = nn.Linear(D, KV * HD, bias=True)
        self.o_proj = nn.Linear(HEADS * HD, D, bias=False)
        self.gate_proj = nn.Linear(D, FFN, bias=False)
        self.up_proj = nn.Linear(D, FFN, bias=False)
        self.down_proj = nn.Linear(FFN, D, bias=False)
        self.drop = drop

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        h = self.input_layernorm(x)
        q = self.q_proj(h).view(B, T, HEADS, HD).transpose(1, 2)
        k = self.k_proj(h).view(B, T, KV, HD).transpose(1, 2)
        v = self.v_proj(h).view(B, T, KV, HD).transpose(1, 2)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        k = k.repeat_interleave(HEADS // KV, 1)
        v = v.repeat_interleave(HEADS // KV, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        a = self.o_proj(a.transpose(1, 2).reshape(B, T, HEADS * HD))
        x = x + F.dropout(a, self.drop, self.training)
        h = self.post_attention_layernorm(x)
        h = self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))
        return x + F.dropout(h, self.drop, self.training)


class Model(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D)
        self.layers = nn.ModuleList(Block(drop) for _ in range(LAYERS))
        self.norm = RMSNorm(D)
        self.drop = drop
        inv = THETA ** (-torch.arange(0, HD, 2).float() / HD)
        f = torch.outer(torch.arange(CTX).float(), inv)
        self.register_buffer("cos", f.cos(), persistent=False)
        self.register_buffer("sin", f.sin(), persistent=False)
        for n, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * LAYERS) if n.endswith(("o_proj.weight", "down_proj.weight")) else 1))
            elif n.endswith("bias"):
                nn.init.zeros_(p)

    def hidden(self, ids):
        x = F.dropout(self.embed(ids), self.drop, self.training)
        T = ids.shape[1]
        cos, sin = self.cos[:T].to(x.dtype), self.sin[:T].to(x.dtype)
        for l in self.layers:
            x = l(x, cos, sin)
        return self.norm(x)

    def forward(self, ids, targets):
        logits = F.linear(self.hidden(ids), self.embed.weight).float()
        return F.cross_entropy(logits.view(-1, VOCAB), targets.reshape(-1))

    def logits(self, ids):
        return F.linear(self.hidden(ids)[:, -1], self.embed.weight).float()


def hf_state(m):
    out = {"model.embed_tokens.weight": m.embed.weight, "model.norm.weight": m.norm.weight}
    for i, l in enumerate(m.layers):
        for n, p in l.named_parameters():
            part = n.split(".")[0]
            pre = "" if "layernorm" in part else "self_attn." if part in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp."
            out[f"model.layers.{i}.{pre}{n}"] = p
    return {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in out.items()}


def save(state, a, meta):
    from safetensors.torch import save_file
    names = sorted(state)
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({n: state[n] for n in part}, os.path.join(a.out, f"{a.name}.{i}.safetensors"), metadata=meta)


class Data:
    """Windows of CTX+1 tokens over plain.bin and one chat pool. Each epoch has its
    own shift; half of the windows are moved on to the next document start."""

    def __init__(self, path, device, seed):
        rd = lambda n: np.fromfile(os.path.join(path, n), dtype=np.uint16)
        plain = rd("plain.bin")
        self.parts = [np.concatenate([plain, rd(n)]) for n in sorted(os.listdir(path)) if n.startswith("chat") and n.endswith(".bin")]
        self.device, self.g = device, np.random.default_rng(seed)
        self.epoch, self.order = -1, []
        self.cache = [None] * len(self.parts)
        self.tokens = len(self.parts[0])
        self.val = [torch.from_numpy(rd(n).astype(np.int32)).to(device) for n in ("val.bin", "valchat.bin", "valsynth.bin") if os.path.exists(os.path.join(path, n))]

    def part(self, e):
        i = e % len(self.parts)
        if self.cache[i] is None:
            a = self.parts[i]
            ends = np.flatnonzero(a == EOT) + 1
            nxt = np.full(len(a) + 1, len(a), dtype=np.int64)  # next document start at or after t
            starts = np.concatenate([[0], ends[ends < len(a)]])
            idx = np.searchsorted(starts, np.arange(len(a) + 1))
            ok = idx < len(starts)
            nxt[ok] = starts[idx[ok]]
            self.cache[i] = (torch.from_numpy(a.astype(np.int32)).to(self.device), nxt)
        return self.cache[i]

    def batch(self, b):
        if len(self.order) < b:
            self.epoch += 1
            t, nxt = self.part(self.epoch)
            s = np.arange(self.g.integers(0, CTX), len(nxt) - 1 - CTX - 1, CTX)
            move = (self.g.random(len(s)) < 0.5) & (nxt[s] - s < 700) & (nxt[s] + CTX + 1 < len(nxt) - 1)
            s = np.where(move, nxt[s], s)
            self.g.shuffle(s)
            self.order, self.cur = s, t
        s, self.order = self.order[:b], self.order[b:]
        i = torch.from_numpy(s).to(self.device)[:, None] + torch.arange(CTX + 1, device=self.device)
        w = self.cur[i].long()
        return w[:, :-1], w[:, 1:]

    def val_batches(self, k, b):
        v = self.val[k]
        n = (len(v) - 1) // CTX
        x = v[:n * CTX].view(n, CTX).long()
        y = v[1:n * CTX + 1].view(n, CTX).long()
        if self.device == "cpu":
            n = 2
        for i in range(0, n, b):
            yield x[i:i + b], y[i:i + b]


@torch.no_grad()
def evaluate(model, data, b, ac):
    model.eval()
    out = []
    for k in range(len(data.val)):
        s = n = 0
        for x, y in data.val_batches(k, b):
            with ac():
                l = model(x, y)
            s += l.item() * x.numel()
            n += x.numel()
        out.append(s / n)
    model.train()
    return out


@torch.no_grad()
def generate(model, ids, n, temp, top_p, seed, device, stop):
    model.eval()
    g = torch.Generator(device="cpu").manual_seed(seed)
    ids = list(ids)
    start = len(ids)
    for _ in range(n):
        lg = model.logits(torch.tensor([ids[-CTX:]], device=device))[0].float().cpu()
        if temp == 0:
            t = int(lg.argmax())
        else:
            p = torch.softmax(lg / temp, -1)
            v, j = p.sort(descending=True)
            keep = v.cumsum(0) - v < top_p
            v = v * keep
            t = int(j[torch.multinomial(v / v.sum(), 1, generator=g)])
        if t in stop:
            break
        ids.append(t)
    return ids[start:]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("data"), ap.add_argument("out")
    ap.add_argument("--name", default="storyteller")
    ap.add_argument("--epochs", type=float, default=30)
    ap.add_argument("--seconds", type=float, default=1e9, help="shorten the schedule to fit this wall time")
    ap.add_argument("--batch", type=int, default=96)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--wd", type=float, default=0.1)
    ap.add_argument("--dropout", type=float, default=0.1)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--keep", choices=["best", "last"], default="best", help="which state to save")
    ap.add_argument("--init", help="checkpoint prefix to start from")
    ap.add_argument("--cpu-test", action="store_true")
    a = ap.parse_args()
    t00 = time.time()
    dev = "cpu" if a.cpu_test else "cuda"
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    if a.cpu_test:
        a.batch, a.epochs = 2, 0.002
    data = Data(a.data, dev, a.seed)
    model = Model(a.dropout).to(dev)
    if a.init:
        from safetensors.torch import load_file
        st = {**load_file(a.init + ".0.safetensors"), **load_file(a.init + ".1.safetensors")}
        own = {k.replace("model.embed_tokens", "embed").replace("model.norm", "norm").replace("model.layers", "layers").replace("self_attn.", "").replace("mlp.", ""): v for k, v in st.items()}
        print("init", a.init, model.load_state_dict({k: v.float() for k, v in own.items()}), flush=True)
    ac = (lambda: torch.autocast(dev, dtype=torch.bfloat16))
    nparam = sum(p.numel() for p in model.parameters())
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": a.wd}, {"params": rest, "weight_decay": 0.0}],
                            lr=a.lr, betas=(0.9, 0.95), eps=1e-8, fused=not a.cpu_test)
    fwd = model if a.cpu_test else torch.compile(model)
    per_epoch = data.tokens / (a.batch * CTX)
    steps = 2 if a.cpu_test else max(12, int(per_epoch * a.epochs))
    warm = min(300, steps // 10 + 1)
    print(f"{a.name}: params {nparam:,} tokens/epoch {data.tokens:,} steps {steps} batch {a.batch} lr {a.lr} wd {a.wd} dropout {a.dropout}", flush=True)
    best, every, t0, last = 1e9, max(1, steps // 24), None, time.time()
    timing_at = min(60, steps - 1)
    for step in range(steps + 1):
        if step >= steps:
            break
        if step == timing_at:  # past compilation: fit the schedule to the time
            if dev == "cuda":
                torch.cuda.synchronize()
            t0 = time.time()
        if t0 and step == timing_at + 100:
            if dev == "cuda":
                torch.cuda.synchronize()
            per = (time.time() - t0) / 100
            fit = int((a.seconds - (time.time() - t00) - 12) / (per * 1.03)) + step
            print(f"  {per * 1e3:.1f} ms/step, {a.batch * CTX / per / 1e6:.2f} Mtok/s; schedule {steps}, fits {fit}", flush=True)
            if fit < steps:
                steps = fit
                every = max(1, steps // 24)
        lr = a.lr * (step + 1) / warm if step < warm else a.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))
        for g in opt.param_groups:
            g["lr"] = lr
        x, y = data.batch(a.batch)
        with ac():
            loss = fwd(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if (step + 1) % every == 0 or step + 1 == steps:
            vs = evaluate(model, data, a.batch, ac)
            v, vc = vs[:2]
            print(f"  step {step + 1} epoch {(step + 1) / per_epoch:.2f} lr {lr:.2e} train {loss.item():.4f} val {v:.4f} valchat {vc:.4f} {vs[2:]} t {time.time() - t00:.0f}s", flush=True)
            if (step + 1 == steps) if a.keep == "last" else sum(vs) < best:
                best = sum(vs)
                keep = {k: p.detach().clone() for k, p in model.state_dict().items()}
                save(hf_state(model), a, {"val": f"{v:.4f}", "valchat": f"{vc:.4f}", "valsynth": str(vs[2:]), "step": str(step + 1), "epochs": f"{(step + 1) / per_epoch:.2f}"})
    model.load_state_dict(keep)
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(os.path.join(a.data, "tokenizer.json"))
    SYS = "<|im_start|>system\nYou are a helpful storyteller.<|im_end|>\n"
    chat = lambda u: SYS + f"<|im_start|>user\n{u}<|im_end|>\n<|im_start|>assistant\n"
    prompts = ["Once upon a time there was a little", chat("Tell me a story about a fox and a crow."), chat("Tell me a story about a princess and a dragon."),
               chat("Hello!"), "The old king had three sons, and"]
    for i, p in enumerate(prompts):
        with ac():
            o = generate(model, tok.encode(p).ids, 8 if a.cpu_test else 160, 0.7, 0.95, i, dev, (EOT, IM_END))
        print(f"--- sample {i}: {p[-70:]!r}\n{tok.decode(o)}", flush=True)
    print(f"{a.name} done in {time.time() - t00:.0f}s best {best:.4f}", flush=True)


main()
