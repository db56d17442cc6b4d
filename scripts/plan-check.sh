#!/usr/bin/env bash
# What `tl plan` says before loading, against what is then taken, for the demo model and one of TinyLlama's shape with random
# weights (made on the spot, 0.6 GB, removed at the end). Prints a table in markdown; fails where a figure is off. Linux.
#
#     scripts/plan-check.sh [SYNTHETIC.gguf]
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
cargo build --release --quiet -p tl
cargo build --release --quiet -p tensorlogic --example plan_check
tl="$target/release/tl"

synthetic="${1:-}"
if [ -z "$synthetic" ]; then
    folder="$(mktemp -d)"
    trap 'rm -rf "$folder"' EXIT
    synthetic="$folder/tinyllama-1.1b-q4_0.gguf"
    "$tl" synth --shape tinyllama-1.1b --format q4_0 "$synthetic" >&2
fi

echo "| model | context | weights | KV cache | activations | said, bytes | device's counters, bytes | peak resident | difference | allowed |"
echo "|---|---|---|---|---|---|---|---|---|---|"
"$target/release/examples/plan_check" "$tl" models/demo-q8_0.gguf 32 128 256
"$target/release/examples/plan_check" "$tl" "$synthetic" 128 512 2048
