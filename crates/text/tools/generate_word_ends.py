#!/usr/bin/env python3
"""Write tests/fixtures/word_ends.jsonl: where each pre-tokenizer's pattern ends its words, in bytes.

The patterns are those of llama.cpp 0c1e57098 (llama-vocab.cpp), run by the Python package `regex`
(2026.11.15); python3.13 names the characters that Unicode 15.1 has.

    pip install regex==2026.11.15 && python3 tools/generate_word_ends.py tests/fixtures/word_ends.jsonl
"""
import json
import random
import subprocess
import sys

import regex

C=r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2=C+r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
def fam(L,N,O): return r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?"+L+"+|"+N+"| ?"+O+r"+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
R={'gpt-2':[GPT2],'smollm':[r"\p{N}",GPT2],'default':[r"[\p{P}\$\+<=>\^~\|]+",GPT2,r"\p{N}+",r"[0-9][0-9][0-9]"],
'llama-bpe':[fam(r"\p{L}",r"\p{N}{1,3}",r"[^\s\p{L}\p{N}]")],'qwen2':[fam(r"\p{L}",r"\p{N}",r"[^\s\p{L}\p{N}]")],
'qwen35':[fam(r"[\p{L}\p{M}]",r"\p{N}",r"[^\s\p{L}\p{M}\p{N}]")]}
def split(pats,s):
    P=[s]
    for p in pats:
        q=[]
        for x in P:
            at=0
            for m in regex.finditer(p,x):
                if m.end()==m.start(): continue
                if m.start()>at: q.append(x[at:m.start()])
                q.append(m.group()); at=m.end()
            if at<len(x): q.append(x[at:])
        P=q
    assert ''.join(P)==s
    return P
rnd=random.Random(5)
# characters assigned in Unicode 15.1 and not U+001C..1F, whose \s differs between programs
ok=json.loads(subprocess.check_output(['python3.13','-c','import unicodedata,json;print(json.dumps([c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn","Cs","Co") and c not in (0x1c,0x1d,0x1e,0x1f)]))']))
low=[c for c in ok if c<0x250]
WS=[chr(c) for c in (9,10,13,32,32,32,0x85,0xa0,0x2003,0x2028,0x3000)]
W="the don't WE'VE it'S x's I'll 'tis 12345 3.14 ½Ⅷ² ٣٤٥ naïve Straße 日本語 한국어 हिन्दी नमस्ते é 🦀👩‍👧 1️⃣ ... !? $5 a_b <x> a+b ^^ || ~~ `q` -- \n\n \r\n".split(' ')
def g():
    k=rnd.random()
    if k<.5: return rnd.choice(W)
    if k<.75: return ''.join(rnd.choice(WS) for _ in range(rnd.randrange(1,4)))
    if k<.9: return ''.join(chr(rnd.choice(low)) for _ in range(rnd.randrange(1,5)))
    return ''.join(chr(rnd.choice(ok)) for _ in range(rnd.randrange(1,4)))
S=["","a"," ","  ","\n"," \n ","   x","x   ","'s","'S","'","''re","'l","1234567","12٣456789"]+[''.join(g() for _ in range(rnd.randrange(2,10))) for _ in range(70)]
with open(sys.argv[1],'w') as f:
    for s in S:
        d={'text':s}
        for n,p in R.items():
            e=[];t=0
            for x in split(p,s): t+=len(x.encode()); e.append(t)
            d[n]=e
        f.write(json.dumps(d)+'\n')
