#!/usr/bin/env python3
"""Writes tests/data/random-mxfp4.gguf and its entry in tests/data/random-reference.json.

    scripts/random-mxfp4.py [--check]

The weights are those of random-f16.gguf, with a narrower feed-forward network, written as MXFP4 by gguf-py. The entry has what
gguf-py reads of them again, and the logits of a forward pass in float64. --check writes nothing: it computes the entry of every file
that is there and says how far it is from what the reference says.

Python 3.9, numpy and gguf 0.19. Exit status: 0 written, or the same; 1 an entry differs.
"""
import argparse
import json
import pathlib
import sys

import gguf
import numpy as np

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
REFERENCE = DATA / "random-reference.json"
SOURCE = DATA / "random-f16.gguf"
TARGET = DATA / "random-mxfp4.gguf"
FFN = 448
EPS = 1e-5


def weights(path):
    """Every tensor by its name, as float32, and the name of its format."""
    tensors = gguf.GGUFReader(path).tensors
    values = {}
    for t in tensors:
        data = t.data.view(np.uint8) if t.tensor_type.name == "BF16" else t.data
        values[t.name] = gguf.quants.dequantize(data, t.tensor_type).reshape(t.shape[::-1])
    return values, {t.name: t.tensor_type.name for t in tensors}


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def rotate(x, base):
    """Neighbouring pairs of each head, by position."""
    n, _, width = x.shape
    angles = np.arange(n)[:, None, None] * base ** (-np.arange(0, width, 2) / width)
    even, odd, cos, sin = x[..., 0::2], x[..., 1::2], np.cos(angles), np.sin(angles)
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def logits(values, ids, base, head=64):
    """Of a model of one layer, at every position."""
    w = {name.removesuffix(".weight").removeprefix("blk.0."): x.astype(np.float64) for name, x in values.items()}
    x = w["token_embd"][ids]
    n = len(ids)
    h = norm(x, w["attn_norm"])
    q, k, v = ((h @ w[name].T).reshape(n, -1, head) for name in ("attn_q", "attn_k", "attn_v"))
    q, k = rotate(q, base), rotate(k, base)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(head)
    scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    x = x + np.einsum("hij,jhd->ihd", scores, v).reshape(n, -1) @ w["attn_output"].T
    h = norm(x, w["ffn_norm"])
    gate = h @ w["ffn_gate"].T
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w["ffn_up"].T)) @ w["ffn_down"].T
    return norm(x, w["output_norm"]) @ w["output"].T


def entry(path, reference):
    values, formats = weights(path)
    all_logits = logits(values, reference["ids"], reference["rope_base"])
    return {
        "format_of": formats,
        "blk.0.ffn_down row 5": [float(x) for x in values["blk.0.ffn_down.weight"][5]],
        "sum_of_all_weights": {name.removesuffix(".weight"): float(x.astype(np.float64).sum()) for name, x in values.items()},
        "last_logits": [float(x) for x in all_logits[-1]],
        "logits_norm_per_position": [float(x) for x in np.linalg.norm(all_logits, axis=-1)],
    }


def write():
    reader = gguf.GGUFReader(SOURCE)
    writer = gguf.GGUFWriter(TARGET, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = {"llama.feed_forward_length": FFN, "general.file_type": 38}.get(name, field.contents())
        kind, *of = field.types
        writer.add_key_value(name, value, kind, of[0] if of else None)
    for t in reader.tensors:
        x = t.data.astype(np.float32).reshape(t.shape[::-1])
        x = x[:FFN] if t.name in ("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight") else x
        x = x[:, :FFN] if t.name == "blk.0.ffn_down.weight" else x
        kind = gguf.GGMLQuantizationType.MXFP4 if x.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(t.name, gguf.quants.quantize(np.ascontiguousarray(x), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check(reference):
    is_same = True
    for name, expected in reference["files"].items():
        if not (DATA / name).exists():
            continue
        found = entry(DATA / name, reference)
        far = 0.0
        for key in ("blk.0.ffn_down row 5", "last_logits", "logits_norm_per_position"):
            a, b = np.array(found[key]), np.array(expected[key])
            far = max(far, np.linalg.norm(a - b) / np.linalg.norm(b))
        is_same &= far < 1e-6 and found["format_of"] == expected["format_of"]
        print(f"{name}: {far:.1e}")
    return is_same


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--check", action="store_true")
arguments = parser.parse_args()
reference = json.loads(REFERENCE.read_text())
if arguments.check:
    sys.exit(0 if check(reference) else 1)
write()
reference["files"][TARGET.name] = entry(TARGET, reference)
REFERENCE.write_text(json.dumps(reference))
