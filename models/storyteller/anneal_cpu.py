#!/usr/bin/env python3
"""A short learning-rate anneal on a CPU (f32, no dropout), on fresh
story-grammar and book samples.  anneal_cpu.py INIT OUT_PREFIX_DIR NAME SECONDS"""
import json, os, random, sys, time
import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
init, outdir, name, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
LR = float(sys.argv[5]) if len(sys.argv) > 5 else 4e-4
src = open(os.path.join(HERE, "train.py")).read().replace("\nmain()\n", "\n")
exec(src)
from safetensors.torch import load_file
torch.manual_seed(0)
torch.set_num_threads(2)
T, B = 512, 8
rows = torch.from_numpy(np.fromfile(os.path.join(HERE, "work", "ft", "anneal.bin"), dtype=np.uint16).astype(np.int64))
starts = (torch.nonzero(rows == EOT).flatten() + 1)
starts = starts[starts < len(rows) - T - 1]
starts = starts[torch.randperm(len(starts))]
m = Model(0.0)
st = {**load_file(init + ".0.safetensors"), **load_file(init + ".1.safetensors")}
m.load_state_dict({k.replace("model.embed_tokens", "embed").replace("model.norm", "norm").replace("model.layers", "layers").replace("self_attn.", "").replace("mlp.", ""): v.float() for k, v in st.items()})
opt = torch.optim.AdamW(m.parameters(), lr=LR, betas=(0.9, 0.98), weight_decay=0.0)
class A: pass
a = A(); a.out, a.name = outdir, name
t0, step, avg = time.time(), 0, None
while True:
    f = (time.time() - t0) / seconds
    if f >= 1:
        break
    for g in opt.param_groups:
        g["lr"] = LR * min(1, (step + 1) / 8) * max(0.02, 1 - f)
    s = starts[(torch.arange(B) + step * B) % len(starts)]
    w = rows[s[:, None] + torch.arange(T + 1)]
    loss = m(w[:, :-1], w[:, 1:])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    avg = loss.item() if avg is None else 0.95 * avg + 0.05 * loss.item()
    step += 1
    if step % 10 == 0:
        print(f"step {step} loss {avg:.4f} t {time.time() - t0:.0f}s {step * B * T / (time.time() - t0):.0f} tok/s", flush=True)
save(hf_state(m), a, {"anneal_steps": str(step), "anneal_tokens": str(step * B * T)})
print("done", step)
