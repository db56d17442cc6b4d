#!/usr/bin/env python3
"""What `tl plan` says of a model's memory, beside what a process then takes while it fills the context: the device's own counters, the
kernel's count of resident pages, and the limits under which it runs and is refused, held to by the kernel. Prints a table in markdown
and fails where the process does not run within what was said, or runs with 2 % less. Linux.

    scripts/memory-bound.py target/release/tl MODEL.gguf [MODEL.gguf …] [--contexts 64 128 256]
"""

import argparse
import json
import re
import subprocess
import sys


def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def plan(tl, model, context, cache):
    return json.loads(output_of([tl, "plan", model, "--context", str(context), "--cache", cache, "--json"]))


def generate(tl, model, context, cache, limit, is_read, prompt, max_tokens):
    """Runs under the limit. Gives the exit code, the statistics or the error, and the most that was resident."""
    command = [tl, "generate", model, "--context", str(context), "--cache", cache, "--memory-limit", str(limit), "--enforce",
               "--temperature", "0", "--max-tokens", str(max_tokens), "--prompt", prompt, "--memory-stats=json"]
    command += ["--no-mmap"] if is_read else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    resident = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                found = re.search(r"VmHWM:\s+(\d+)", status.read())
                resident = max(resident, int(found.group(1)) * 1024) if found else resident
        except OSError:
            pass
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            pass
    return process.returncode, process.stderr.read().strip().splitlines()[-1], resident


def mib(n):
    return f"{n / 2**20:.1f}"


def row(tl, model, context, cache, is_read):
    said = plan(tl, model, context, cache)
    total = said["total_bytes"]
    prompt = "a " * (context // 3)
    code, last, resident = generate(tl, model, context, cache, total, is_read, prompt, context)
    if code:
        sys.exit(f"{model}, {context} tokens: it does not run within what was said: {last}")
    stats = json.loads(last)
    held = stats["driver_bytes"] + stats["workspace_bytes"] + stats["mapped_bytes"]
    runs, refused = total, total * 98 // 100
    if generate(tl, model, context, cache, refused, is_read, "a", 1)[0] == 0:
        sys.exit(f"{model}, {context} tokens: it runs with 2 % less than was said")
    while runs - refused > 4096:
        middle = (runs + refused) // 2
        if generate(tl, model, context, cache, middle, is_read, "a", 1)[0] == 0:
            runs = middle
        else:
            refused = middle
    name = model.rsplit("/", 1)[-1].removesuffix(".gguf")
    cells = [name, context, cache, "read" if is_read else "mapped", mib(total), mib(held), mib(stats["heap_peak_bytes"]),
             mib(said["code_bytes"] + said["stack_bytes"]), mib(said["enforced_bytes"]), mib(resident), f"{runs / total:.4f}",
             f"{refused / total:.4f}"]
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tl")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 128, 256])
    arguments = parser.parse_args()
    print("| model | context | cache | weights | said | held by the device | heap at most | code and stacks | enforced | resident at most "
          "| runs at | refused at |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for context in arguments.contexts:
            for cache in ["float16", "q8_0"]:
                for is_read in [False, True]:
                    row(arguments.tl, model, context, cache, is_read)


main()
