#!/usr/bin/env python3
"""What `tl plan` says of a model's memory, beside what a process then takes while it fills the context to its end: the
device's own counters, the kernel's count of resident pages, and the limits under which it runs and is refused, held to by
the kernel. Prints a table in markdown. Fails where the process does not run within what was said, does not fill the
context, or runs with 2 % less. Linux.

    scripts/memory-bound.py target/release/tl MODEL.gguf [MODEL.gguf …] [--contexts 64 128 256] [--weights mapped]
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
    command = [tl, "generate", model, "--context", str(context), "--cache", cache, "--memory-limit", str(limit),
               "--enforce", "--temperature", "0", "--max-tokens", str(max_tokens), "--prompt", prompt, "--memory-stats=json"]
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


def prompt_tokens(tl, model, prompt):
    command = [tl, "generate", model, "--prompt", prompt, "--max-tokens", "1", "--memory-stats=json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stderr.strip().splitlines()[-1])["prompt_tokens"]


def long_prompt(tl, model, context):
    """A prompt that leaves a few tokens of the context."""
    few, more = (prompt_tokens(tl, model, "a " * n) for n in (8, 24))
    return "a " * int((context - 8 - few) * 16 / (more - few) + 8)


def mib(n):
    return f"{n / 2**20:.1f}"


def row(tl, model, context, cache, is_read):
    said = plan(tl, model, context, cache)
    total = said["total_bytes"]
    prompt = long_prompt(tl, model, context)
    code, last, resident = generate(tl, model, context, cache, total, is_read, prompt, context)
    if code:
        sys.exit(f"{model}, {context} tokens: it does not run within what was said: {last}")
    stats = json.loads(last)
    filled = stats["prompt_tokens"] + stats["decoded_tokens"]
    if filled != context:
        sys.exit(f"{model}: of a context of {context} tokens {filled} were filled")
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
    beside = mib(said["code_bytes"] + said["stack_bytes"])
    cells = [name, context, cache, "read" if is_read else "mapped", mib(total), mib(held), mib(stats["heap_peak_bytes"]),
             beside, mib(said["enforced_bytes"]), mib(resident), f"{runs / total:.4f}", f"{refused / total:.4f}"]
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tl")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--weights", choices=["mapped", "read"], nargs="+", default=["mapped", "read"])
    arguments = parser.parse_args()
    print("| model | context | cache | weights | said | held by the device | heap at most | code and stacks | enforced "
          "| resident at most | runs at | refused at |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for context in arguments.contexts:
            for cache in ["float16", "q8_0"]:
                for weights in arguments.weights:
                    row(arguments.tl, model, context, cache, weights == "read")


main()
