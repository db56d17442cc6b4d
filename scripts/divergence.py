#!/usr/bin/env python3
"""How far TensorLogic's predictions are from llama.cpp's on the same file and the same tokens, for each instruction set.

    scripts/divergence.py --tl target/release/tl --llama-perplexity ~/llama.cpp/build/bin/llama-perplexity MODEL.gguf...

llama-perplexity runs a text through the model and writes what it gave every token of the vocabulary in each place (its
--kl-divergence-base); `tl perplexity --against` that file then predicts the same tokens, once for each TL_CPU. For every one the table
has the Kullback-Leibler divergence Σ p (ln p - ln q) of the places, with p the reference's probabilities, how often both find the same
token likeliest, and the perplexity. The second row is the yardstick: llama.cpp against itself, with weights that it does not
rearrange (--no-repack), which rounds in other places.

With --exact there is a second table for each file: the reference is then llama.cpp with the same weights written out as float32 (by `tl
quantize`; four bytes each, in the temporary folder) and a float32 cache, so that hardly anything is rounded. It tells how much each way
of computing loses, llama.cpp's included, and not merely how they differ.

The text is --text, or words made up by a fixed rule; the weights of made-up models (`tl synth`) predict nothing, but what the arithmetic
rounds shows there as well. Every window of --context tokens counts with its second half. The file of log-probabilities holds for each
place 16-bit numbers with a step and a lowest value; crates/tl-model/src/format/log_probs.rs describes it.

Python 3.9, its standard library. Exit status: 0 compared; 1 a program failed; 2 wrong usage, or a program is missing.
"""
import argparse
import array
import json
import math
import os
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile


class Failure(Exception):
    """A program that did not do what it was asked, in words."""


def run(command, environment=None):
    command = [str(word) for word in command]
    settings = "".join(f"{name}={value} " for name, value in (environment or {}).items())
    print(f"  {settings}{shlex.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, **(environment or {})})
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
        raise Failure(f"{shlex.join(command)} ended with status {done.returncode}:\n    " + "\n    ".join(last))
    return done.stdout.decode(errors="replace")


class LogProbs:
    """A file of log-probabilities: its rows, each a step, a lowest value, and a number for each token of the vocabulary."""

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        if self.data[:8] != b"_logits_":
            raise Failure(f"{path} is no file of log-probabilities")
        self.window, self.vocab_size, self.n_windows = struct.unpack_from("<3i", self.data, 8)
        self.start = 20 + 4 * self.window * self.n_windows
        self.row_bytes = 8 + 2 * (self.vocab_size + self.vocab_size % 2)
        self.rows_in_window = self.window - 1 - self.window // 2
        self.n_rows = self.n_windows * self.rows_in_window
        if len(self.data) < self.start + self.n_rows * self.row_bytes:
            raise Failure(f"{path} ends too early: did its program come to an end?")

    def next_token(self, row):
        at = row // self.rows_in_window * self.window + self.window // 2 + 1 + row % self.rows_in_window
        return struct.unpack_from("<i", self.data, 20 + 4 * at)[0]

    def row(self, index):
        """The log-probabilities of a row, and whether each is known: where the row's range is the most that a file can have, all
        tokens that lie below it have the lowest value."""
        start = self.start + index * self.row_bytes
        step, lowest = struct.unpack_from("<2f", self.data, start)
        numbers = array.array("H", self.data[start + 8 : start + 8 + 2 * self.vocab_size])
        if sys.byteorder == "big":
            numbers.byteswap()
        is_cut = step * 65535 > 0.9999 * 16
        return [lowest + step * number for number in numbers], [not is_cut or number > 0 for number in numbers]


def compare(reference, other):
    """What `tl perplexity --against --json` tells, of two files."""
    divergences, same_top, nll = [], 0, 0.0
    for index in range(reference.n_rows):
        (p, known), (q, _) = reference.row(index), other.row(index)
        # Of the known tokens alone, both add up to 1.
        pairs = [(a, b) for a, b, is_known in zip(p, q, known) if is_known]
        sum_p, sum_q = math.fsum(math.exp(a) for a, _ in pairs), math.fsum(math.exp(b) for _, b in pairs)
        difference = math.fsum(math.exp(a) * (a - b) for a, b in pairs)
        divergences.append(difference / sum_p - math.log(sum_p / sum_q))
        same_top += p.index(max(p)) == q.index(max(q))
        nll -= q[reference.next_token(index)]
    n = len(divergences)
    divergences.sort()
    quantile = lambda share: divergences[max(math.ceil(share * n), 1) - 1]
    return {
        "kl_mean": math.fsum(divergences) / n, "kl_median": quantile(0.5), "kl_99": quantile(0.99), "kl_most": divergences[-1],
        "same_top": same_top / n, "perplexity": math.exp(nll / n), "tokens": n,
    }


def made_up_text(n_words):
    """Words by a linear congruential generator: the same everywhere."""
    letters, state, words = "etaoinshrdlu", 1, []
    for _ in range(n_words):
        word = ""
        for _ in range(2 + state // 65536 % 3):
            state = (state * 1103515245 + 12345) % (1 << 31)
            word += letters[state // 65536 % len(letters)]
        words.append(word)
    return " ".join(words)


class Session:
    """The programs, the text and a folder for what they write."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, pathlib.Path(folder)
        self.text = arguments.text or self.folder / "text.txt"
        if not arguments.text:
            # More words than tokens are wanted; llama-perplexity asks for two windows at least.
            self.text.write_text(made_up_text(arguments.context * max(arguments.windows, 2) + 8), encoding="utf-8")

    def llama(self, model, name, *more):
        """Writes llama.cpp's log-probabilities to a file of that name."""
        a, path = self.arguments, self.folder / name
        # One window at a time, all of it at once.
        sizes = ["-c", a.context, "-b", a.context, "-ub", a.context, "--chunks", a.windows]
        run([a.llama_perplexity, "-m", model, "-f", self.text, *sizes, "-t", a.threads, "--kl-divergence-base", path, *more])
        return path

    def ours(self, model, reference, isa, activations):
        a = self.arguments
        line = [a.tl, "perplexity", model, "--against", reference, "--json", "--threads", a.threads, "--activations", activations]
        return json.loads(run(line, {"TL_CPU": isa} if isa else None))

    def rows(self, model, reference, others):
        """One row for each way of computing, against a reference."""
        for name, path in others:
            yield name, compare(LogProbs(reference), LogProbs(path))
        for activations in self.arguments.activations:
            for isa in self.arguments.cpu:
                how = f"TensorLogic, {f'TL_CPU={isa}' if isa else 'as it is'}, {activations}"
                yield how, self.ours(model, reference, isa, activations)


def table(title, rows):
    print(f"{title}\n\n| against it | KL mean | median | 99 % | greatest | same likeliest token | perplexity |\n|---|---|---|---|---|---|---|")
    for name, found in rows:
        divergences = " | ".join(f"{found[key]:.2e}" for key in ("kl_mean", "kl_median", "kl_99", "kl_most"))
        print(f"| {name} | {divergences} | {100 * found['same_top']:.2f} % | {found['perplexity']:.2f} |", flush=True)
    print()


def program(text):
    found = shutil.which(os.path.expanduser(text))
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: no such program, or it may not be run")
    return pathlib.Path(found).resolve()


def file(text):
    path = pathlib.Path(text).expanduser()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return path.resolve()


def list_of(text):
    return text.split(",")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=file, metavar="MODEL.gguf")
    parser.add_argument("--tl", type=program, required=True, metavar="PROGRAM", help="TensorLogic's program")
    parser.add_argument("--llama-perplexity", type=program, required=True, metavar="PROGRAM", help="of llama.cpp")
    parser.add_argument("--text", type=file, metavar="FILE", help="default: made-up words")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="tokens of a window; default: 512")
    parser.add_argument("--windows", type=int, default=2, metavar="N", help="windows to go through; default: 2")
    parser.add_argument("--cpu", type=list_of, default=[""], metavar="portable,avx2,…", help="TL_CPU; default: as it is")
    parser.add_argument("--activations", type=list_of, default=["float16"], metavar="float16,float32", help="default: float16")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all")
    parser.add_argument("--exact", action="store_true", help="also compare all with weights written out as float32")
    arguments = parser.parse_args()
    if arguments.context < 4 or arguments.windows < 1 or arguments.threads < 1:
        parser.error("--context is 4 or more, --windows and --threads are 1 or more")
    return arguments


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="divergence-") as folder:
        session = Session(arguments, folder)
        for model in arguments.models:
            reference = session.llama(model, "llama")
            plain = session.llama(model, "plain", "--no-repack")
            others = [("llama.cpp, --no-repack", plain)]
            n = LogProbs(reference).n_rows
            table(f"{model.name}: the reference is llama.cpp on this file, {n} tokens", session.rows(model, reference, others))
            if not arguments.exact:
                continue
            wide = session.folder / "f32.gguf"
            run([arguments.tl, "quantize", model, wide, "f32"])
            exact = session.llama(wide, "exact", "-ctk", "f32", "-ctv", "f32", "-fa", "off")
            wide.unlink()
            others = [("llama.cpp", reference), *others]
            table(f"{model.name}: the reference is float32 throughout, {n} tokens", session.rows(model, exact, others))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as problem:
        print(f"divergence.py: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
