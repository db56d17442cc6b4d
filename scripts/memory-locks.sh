#!/usr/bin/env bash
# Writes the locks of the examples' memory, or compares the examples with them: memory-locks.sh --lock|--check TL
# Each lock lies in examples/memory-locks, named after what it is of.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] && { [ "$1" = --lock ] || [ "$1" = --check ]; } || { echo "usage: memory-locks.sh --lock|--check TL" >&2; exit 2; }
mkdir -p examples/memory-locks

# lock FILE OPTION...
lock() {
    local file=$1
    shift
    "$tl" plan "$file" "$@" "$mode" "examples/memory-locks/$(basename "$file").lock" 2>"$said" >"$printed" || {
        cat "$said" >&2
        exit 1
    }
    [ "$mode" = --lock ] || cat "$printed"
}

mode=$1 tl=$2 said=$(mktemp) printed=$(mktemp)
trap 'rm -f "$said" "$printed"' EXIT
lock examples/generate.tl
lock examples/generate_naive.tl
lock examples/tensor_buffer_demo.tl
lock models/demo-q8_0.gguf --context 256
