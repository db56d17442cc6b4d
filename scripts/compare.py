#!/usr/bin/env python3
"""TensorLogic beside other programs: the same model files, the same threads, in turns, in one run.

    scripts/compare.py --tl target/release/tl --llama-bench ~/llama.cpp/build/bin/llama-bench MODEL.gguf...

prints tables in Markdown: for every file, number of threads and test the median of the tokens per second (least to most),
TensorLogic's ratio to the best of the others, and the most memory that each program had resident. Python 3.9, its standard
library, Linux or macOS; the other programs are not part of this project, and any of them may be left out.

What is measured, chosen by --measure:

  speed   prefill and decoding. A test is `pp512` (512 tokens at once into an empty cache), `tg64` (64 tokens one after the
          other) or `tg64d1024` (the same behind 1,024 tokens). Asked are
            TL bench MODEL --threads N --prefill 512 --decode 64 --depth 0,1024 --reps R --json
            LLAMA_BENCH -m MODEL -t N -p 512 -n 64 -d 1024 -r R -o jsonl
            CANDLE MODEL --pp 512 --tg 64 --depth 1024 --reps R
          --llama-also '--repack 0' asks llama-bench again with these arguments, as a program of its own in the table.
  load    one token from a short prompt, in a process of its own: the time from its start until the text behind the prompt
          appears, and until it has ended. Greedy, room for 2,048 tokens (--context), the file in the page cache. Asked are
            TL generate MODEL --prompt P --max-tokens 1 --temperature 0 --context C --threads N
            LLAMA_COMPLETION -m MODEL -p P -n 1 --temp 0 -c C -t N --no-warmup, with --repack and with --no-repack

Every round runs every program once for each file and number of threads, and each round begins with the next program, so that a
change of the machine's speed meets all alike. R (--reps) times per round; a warm-up is each program's own business.

A candle program, or another, joins with --candle by this contract: it takes the arguments above, computes with as many threads
as the environment variable RAYON_NUM_THREADS says, and prints one line for each kind of work that is not 0,
    RES NAME: min A median B max C
where NAME begins with pp or tg, and A, B, C are tokens per second over its repetitions. It is asked for one test at a time
(`--pp N --tg 0`, or `--pp 0 --tg N --depth D`); anything else that it prints is ignored.

Exit status: 0 measured; 1 a program failed on a file (the tables have what there is); 2 wrong usage, or a program is missing;
130 interrupted, or asked to end by SIGTERM (the tables have what there is).
"""
import argparse
import collections
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

OURS = "TensorLogic"
PROMPT = "The memory that a program needs is known before it runs, so"
TIMEOUT_SECONDS = 3600


class Failure(Exception):
    """A program that did not do what it was asked, in words."""


# What one program's failure looks like; KeyError and ValueError come from lines that are not what they should be.
FAILURES = (Failure, KeyError, ValueError)


class Test(collections.namedtuple("Test", "kind count depth")):
    """One thing that is measured: `pp512`, `tg64`, `tg64d1024`."""

    @staticmethod
    def parse(text):
        found = re.fullmatch(r"(pp)([1-9]\d*)|(tg)([1-9]\d*)(?:d(\d+))?", text)
        if not found:
            raise argparse.ArgumentTypeError(f"{text!r} is no test; expected such as pp512, tg64, tg64d1024")
        if found[1]:
            return Test("pp", int(found[2]), 0)
        return Test("tg", int(found[4]), int(found[5] or 0))

    def __str__(self):
        return f"{self.kind}{self.count}" + (f"d{self.depth}" if self.depth else "")


class Run(collections.namedtuple("Run", "output seconds first_seconds resident_mib")):
    """What became of a process: its output, its time, the time until its output passed a length, its most resident memory."""


def run(command, environment=None, first_after=None):
    """Runs a program to its end. `first_after`: the bytes of output behind which the first text of its own comes."""
    command = [str(word) for word in command]
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})}
        )
        # One that waits for something that never comes is ended. An interrupt may come while the clock starts, too.
        clock = threading.Timer(TIMEOUT_SECONDS, process.kill)
        clock.daemon = True
        output, first = bytearray(), None
        try:
            clock.start()
            while piece := os.read(process.stdout.fileno(), 1 << 16):
                output += piece
                if first is None and first_after is not None and len(output) > first_after:
                    first = time.perf_counter() - start
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.kill()
            raise
        finally:
            clock.cancel()
        seconds = time.perf_counter() - start
        process.stdout.close()
        # Popen is told what it did not see itself.
        process.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if process.returncode != 0:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-5:]
            how = f"ended with status {process.returncode}" if process.returncode > 0 else f"was ended by signal {-process.returncode}"
            raise Failure(f"{shlex.join(command)} {how}:\n    " + "\n    ".join(last or ["(nothing on standard error)"]))
    # Linux counts in KiB, macOS in bytes.
    resident = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Run(output.decode(errors="replace"), seconds, first, resident)


def objects(output):
    """The lines of a program's output that are JSON objects."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def grouped(tests):
    """Lists of numbers that one process can measure: prefills, and for each count of decoded tokens its depths."""
    decodes = collections.defaultdict(list)
    for test in tests:
        if test.kind == "tg":
            decodes[test.count].append(test.depth)
    return [test.count for test in tests if test.kind == "pp"], sorted(decodes.items())


def joined(numbers):
    return ",".join(map(str, numbers))


class TensorLogic:
    name = OURS

    def __init__(self, tl, name=OURS, environment=None, extra=()):
        self.tl, self.name, self.environment, self.extra = tl, name, environment, extra

    def speed(self, model, threads, tests, reps):
        prefills, decodes = grouped(tests)
        asked = [["--prefill", 0, "--decode", count, "--depth", joined(depths)] for count, depths in decodes or [(0, [0])]]
        # The first process measures prefill too.
        asked[0][1] = joined(prefills) or 0
        for arguments in asked:
            line = [self.tl, "bench", model, "--threads", threads, "--reps", reps, "--json"]
            done = run([*line, *arguments, *self.extra], self.environment)
            for found in objects(done.output):
                yield found["test"], found["tokens_per_second"], done.resident_mib

    def load(self, model, threads, context):
        line = [self.tl, "generate", model, "--prompt", PROMPT, "--max-tokens", 1, "--temperature", 0]
        line += ["--context", context, "--threads", threads]
        return run([*line, *self.extra], self.environment, first_after=len(PROMPT))


class LlamaBench:
    def __init__(self, program, extra):
        self.program, self.extra = program, shlex.split(extra)
        self.name = " ".join(["llama.cpp", *self.extra])

    def speed(self, model, threads, tests, reps):
        prefills, decodes = grouped(tests)
        asked = [["-p", joined(prefills), "-n", 0]] if prefills else []
        asked += [["-p", 0, "-n", count, "-d", joined(depths)] for count, depths in decodes]
        for arguments in asked:
            done = run([self.program, "-m", model, "-t", threads, "-r", reps, "-o", "jsonl", *arguments, *self.extra])
            for found in objects(done.output):
                kind, count = ("pp", found["n_prompt"]) if found["n_prompt"] else ("tg", found["n_gen"])
                yield str(Test(kind, count, found.get("n_depth", 0))), found["samples_ts"], done.resident_mib


class Candle:
    name = "candle"

    def __init__(self, program):
        self.program = program

    def speed(self, model, threads, tests, reps):
        for test in tests:
            pp, tg = (test.count, 0) if test.kind == "pp" else (0, test.count)
            line = [self.program, model, "--pp", pp, "--tg", tg, "--depth", test.depth, "--reps", reps]
            done = run(line, {"RAYON_NUM_THREADS": str(threads)})
            number = r"([\d.]+)"
            found = re.search(rf"^RES {test.kind}\S*: min {number} median {number} max {number}", done.output, re.MULTILINE)
            if not found:
                raise Failure(f"{self.program} printed no line `RES {test.kind}…: min A median B max C` for {test}")
            low, middle, high = map(float, found.groups())
            # Of one and two repetitions these are all; of more, three of them.
            yield str(test), {1: [middle], 2: [low, high]}.get(reps, [low, middle, high]), done.resident_mib


class LlamaCompletion:
    def __init__(self, program, extra):
        self.program, self.extra = program, extra
        self.name = f"llama.cpp {extra}"

    def load(self, model, threads, context):
        line = [self.program, "-m", model, "-p", PROMPT, "-n", 1, "--temp", 0, "-c", context, "-t", threads, "-no-cnv"]
        return run([*line, "--no-warmup", "--no-display-prompt", self.extra], first_after=0)


class Seen:
    """What was measured, by what it was: lists of numbers in the order in which they came."""

    def __init__(self):
        self.samples = collections.defaultdict(list)
        self.failures = {}

    def add(self, key, values):
        self.samples[key] += values

    def failed(self, program, model, problem):
        if not isinstance(problem, Failure):
            problem = f"printed something else than expected: {type(problem).__name__}: {problem}"
        if (program, model) not in self.failures:
            print(f"compare.py: {program}, {model}: {problem}", file=sys.stderr)
        self.failures[program, model] = problem

    def median(self, key):
        return statistics.median(self.samples[key]) if self.samples.get(key) else None

    def cell(self, key, digits=1):
        values = self.samples.get(key)
        if not values:
            return "–"
        return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def turns(arguments, programs):
    """All of them with all files and numbers of threads, in turns; says on standard error where it is."""
    is_terminal = sys.stderr.isatty()
    start, end = ("\r\x1b[K", "") if is_terminal else ("", "\n")
    for turn in range(arguments.rounds):
        first = turn % len(programs)
        for model in arguments.models:
            for threads in arguments.threads:
                for program in programs[first:] + programs[:first]:
                    where = f"round {turn + 1} of {arguments.rounds}: {model.name}, threads {threads}, {program.name}"
                    print(f"{start}{where}", end=end, file=sys.stderr, flush=True)
                    yield program, model, threads
    print(start, end="", file=sys.stderr, flush=True)


def speed(arguments, seen, programs):
    for program, model, threads in turns(arguments, programs):
        try:
            for test, rates, resident in program.speed(model, threads, arguments.tests, arguments.reps):
                seen.add(("speed", program.name, model.name, threads, test), rates)
                seen.add(("resident", program.name, model.name), [resident])
        except FAILURES as problem:
            seen.failed(program.name, model.name, problem)


def load(arguments, seen, programs):
    for model in arguments.models:
        # Into the page cache, once for all.
        with open(model, "rb") as file:
            while file.read(1 << 24):
                pass
    for program, model, threads in turns(arguments, programs):
        try:
            done = program.load(model, threads, arguments.context)
        except FAILURES as problem:
            seen.failed(program.name, model.name, problem)
            continue
        if done.first_seconds is not None:
            seen.add(("first", program.name, model.name, threads), [done.first_seconds])
        seen.add(("whole", program.name, model.name, threads), [done.seconds])
        seen.add(("loaded", program.name, model.name), [done.resident_mib])


def table(heads, rows):
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def ratio(ours, others, best):
    """TensorLogic beside the best of the others."""
    others = [value for value in others if value is not None]
    return f"{ours / best(others):.2f}" if ours and others else "–"


def print_speed(arguments, seen, names):
    rows = []
    for model in arguments.models:
        for threads in arguments.threads:
            for test in map(str, arguments.tests):
                keys = {name: ("speed", name, model.name, threads, test) for name in names}
                medians = [seen.median(keys[name]) for name in names if not name.startswith(OURS)]
                cells = [seen.cell(keys[name]) for name in names]
                rows.append([model.name, threads, test, *cells, ratio(seen.median(keys[OURS]), medians, max)])
    print(f"Tokens per second: median (least to most) of {arguments.rounds * arguments.reps}\n")
    table(["file", "threads", "test", *names, f"{OURS} / best other"], rows)
    print_resident(arguments, seen, names, "resident", "Most resident memory while measuring speed, MiB")


def print_load(arguments, seen, names):
    for what, title in [("first", "Start to first token"), ("whole", "Start to the end of a process that generates one token")]:
        rows = []
        for model in arguments.models:
            for threads in arguments.threads:
                keys = {name: (what, name, model.name, threads) for name in names}
                medians = [seen.median(keys[name]) for name in names if not name.startswith(OURS)]
                cells = [seen.cell(keys[name], 3) for name in names]
                rows.append([model.name, threads, *cells, ratio(seen.median(keys[OURS]), medians, min)])
        print(f"{title}, seconds: median (least to most) of {arguments.rounds}\n")
        table(["file", "threads", *names, f"{OURS} / best other"], rows)
    print_resident(arguments, seen, names, "loaded", f"Most resident memory with room for {arguments.context} tokens, MiB")


def print_resident(arguments, seen, names, what, title):
    rows = []
    for model in arguments.models:
        most = lambda name: max(seen.samples.get((what, name, model.name), []), default=None)
        cells = ["–" if most(name) is None else f"{most(name):.0f}" for name in names]
        rows.append([model.name, f"{model.stat().st_size / (1 << 20):.0f}", *cells])
    print(f"{title}\n")
    table(["file", "its size", *names], rows)


def processor():
    """The CPU's name, as the system has it."""
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8"):
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def busy():
    """How many processes want a core, this run's own included."""
    return f"{os.getloadavg()[0]:.1f}"


def program(text):
    found = shutil.which(os.path.expanduser(text))
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: no such program, or it may not be run")
    return pathlib.Path(found).resolve()


def model_file(text):
    path = pathlib.Path(text).expanduser()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return path


def at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def list_of(parse):
    return lambda text: [parse(part) for part in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=model_file, metavar="MODEL.gguf")
    parser.add_argument("--tl", type=program, required=True, metavar="PROGRAM", help="TensorLogic's program")
    parser.add_argument("--llama-bench", type=program, metavar="PROGRAM", help="of llama.cpp, for speed")
    parser.add_argument("--llama-also", action="append", default=[], metavar="ARGUMENTS", help="ask llama-bench with these too")
    parser.add_argument("--llama-completion", type=program, metavar="PROGRAM", help="of llama.cpp, for load")
    parser.add_argument("--candle", type=program, metavar="PROGRAM", help="a program that keeps the contract above, for speed")
    parser.add_argument("--measure", default=["speed"], type=list_of(str), metavar="speed,load", help="default: speed")
    parser.add_argument("--threads", default=[os.cpu_count() or 1], type=list_of(at_least_one), metavar="1,2", help="default: all")
    parser.add_argument("--rounds", default=3, type=at_least_one, metavar="N", help="default: 3")
    parser.add_argument("--reps", default=2, type=at_least_one, metavar="R", help="repetitions in a round; default: 2")
    default = "pp128,pp512,tg64,tg64d1024"
    parser.add_argument("--tests", default=list_of(Test.parse)(default), type=list_of(Test.parse), help=f"default: {default}")
    parser.add_argument("--context", default=2048, type=at_least_one, metavar="C", help="room for load; default: 2048")
    parser.add_argument("--tl-cpu", default=[], type=list_of(str), metavar="avx2,…", help="measure TensorLogic with TL_CPU set to these too")
    parser.add_argument("--tl-no-mmap", action="store_true", help="measure TensorLogic also with weights that it has read into memory")
    parser.add_argument("--samples", type=pathlib.Path, metavar="FILE", help="write every measured number as JSON")
    arguments = parser.parse_args()
    if not set(arguments.measure) <= {"speed", "load"}:
        parser.error("--measure knows speed and load")
    if arguments.llama_also and not arguments.llama_bench:
        parser.error("--llama-also needs --llama-bench")
    if len({model.name for model in arguments.models}) < len(arguments.models):
        parser.error("two models have the same name, by which the tables list them")
    return arguments


def main():
    arguments = parse_arguments()
    ours = [TensorLogic(arguments.tl)]
    ours += [TensorLogic(arguments.tl, f"{OURS} {isa}", {"TL_CPU": isa}) for isa in arguments.tl_cpu]
    if arguments.tl_no_mmap:
        ours.append(TensorLogic(arguments.tl, f"{OURS} --no-mmap", extra=["--no-mmap"]))
    fast, quick = list(ours), list(ours)
    if arguments.llama_bench:
        fast += [LlamaBench(arguments.llama_bench, extra) for extra in ["", *arguments.llama_also]]
    if arguments.candle:
        fast.append(Candle(arguments.candle))
    if arguments.llama_completion:
        quick += [LlamaCompletion(arguments.llama_completion, extra) for extra in ("--repack", "--no-repack")]
    seen = Seen()
    before = busy()
    try:
        if "speed" in arguments.measure:
            speed(arguments, seen, fast)
        if "load" in arguments.measure:
            load(arguments, seen, quick)
    finally:
        # Also of a run that was ended before its end: what it has measured took long.
        print_all(arguments, seen, before, fast, quick)
    return 1 if seen.failures else 0


def print_all(arguments, seen, before, fast, quick):
    """The tables, and every number into a file where one was named."""
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    print(f"{machine}; processes that wanted a core: {before} before, {busy()} after\n")
    if "speed" in arguments.measure:
        print_speed(arguments, seen, [program.name for program in fast])
    if "load" in arguments.measure:
        print_load(arguments, seen, [program.name for program in quick])
    if arguments.samples:
        lines = [json.dumps({"what": key[0], "program": key[1], "file": key[2], "of": list(key[3:]), "values": values})
                 for key, values in seen.samples.items()]
        arguments.samples.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for (name, model), problem in seen.failures.items():
        print(f"{name} failed on {model}: {problem}\n")


if __name__ == "__main__":
    # Whoever stops it in either way wants the tables; a shell's background commands do not even hear of an interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
