#!/usr/bin/env python3
"""The limits of a GPU by PyTorch, to set beside `just bench gpu` on the same machine.

usage: scripts/gpu-torch.py        (needs PyTorch with a GPU)
"""
import time

import torch


def median_seconds(run, rounds=10):
    times = []
    for _ in range(rounds + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[2:])[rounds // 2]


print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
x = torch.zeros(1 << 28, dtype=torch.float32, device="cuda")
seconds = median_seconds(lambda: x.sum())
print(f"| reading {x.numel() * 4 >> 20} MiB | {x.numel() * 4 / seconds / 1e9:.1f} GB/s |")
# The products of a prefill of 512 tokens, and a large one that shows the peak.
for m, k, n in [(512, 2048, 2048), (512, 2048, 5632), (512, 5632, 2048), (8192, 8192, 8192)]:
    a = torch.randn(m, k, dtype=torch.float16, device="cuda")
    w = torch.randn(n, k, dtype=torch.float16, device="cuda")
    seconds = median_seconds(lambda: a @ w.T)
    print(f"| [{m}, {k}] x [{n}, {k}] float16 | {2 * m * k * n / seconds / 1e12:.2f} TFLOP/s |")
# Decoding one token reads a weight once.
for n, k in [(2048, 2048), (5632, 2048), (2048, 5632), (32000, 2048)]:
    a = torch.randn(1, k, dtype=torch.float16, device="cuda")
    w = torch.randn(n, k, dtype=torch.float16, device="cuda")
    seconds = median_seconds(lambda: a @ w.T, 100)
    print(f"| [1, {k}] x [{n}, {k}] float16 | {2 * k * n / seconds / 1e9:.1f} GB/s |")
