#!/usr/bin/env python3
"""TL beside Python and NumPy, as a Markdown table: run.py TL [ROUNDS]. The two run in turns; medians."""

import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def times(command):
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: float(ms) for name, ms in (line.rsplit(" ", 1) for line in output.splitlines())}


def main():
    tl, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    results = []
    for _ in range(rounds):
        results.append((times([tl, "run", HERE / "bench.tl"]), times([sys.executable, HERE / "bench.py"])))
    print("| | TL, ms | Python, ms | Python / TL |\n|---|---|---|---|")
    for name in results[0][0]:
        ours = [ours[name] for ours, _ in results]
        theirs = [theirs[name] for _, theirs in results]
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        print(f"| {name} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} | {ratio:.2f} |")


main()
