# What people do here. `just` lists it.

_default:
    @just --list

# Everything that a change must pass.
ci:
    .ci/run

# Format, lint, test.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test

# Generate text with the demo model.
demo *ARGS:
    cargo run --release -- run examples/generate.tl -- {{ARGS}}

# The counting run of the README: every tensor allocated, the pool, reserved buffers.
count:
    cargo run --release -p tensorlogic-rt --example count

# Write the locks of the examples' memory, after a change that is meant to take more.
memory-lock:
    cargo build --release -p tensorlogic-tl
    scripts/memory-locks.sh --lock "${CARGO_TARGET_DIR:-target}/release/tl"

# Write docs/builtins.md from the tables of builtins.
reference:
    cargo run -q -p tl-language --example reference > docs/builtins.md

# The documentation, in a browser.
doc:
    cargo doc --workspace --no-deps --open

# A benchmark: `memory` for times of takes and returns, `traces` for the table of docs/memory-traces.md, `kernels` for the inner
# loops of products with weights, format by format, `gpu` for a GPU's speed and memory beside its limits.
bench NAME *ARGS:
    cargo bench --bench {{NAME}} -- {{ARGS}}

# Returning and taking memory again across threads, in every interleaving.
loom:
    RUSTFLAGS="--cfg loom" cargo test -p tl-device --release --test loom --target-dir target/loom

# TL beside Python and NumPy on small programs: loops, calls, lists, strings, maps, small tensors. Needs NumPy.
bench-language ROUNDS="9":
    cargo build --release -p tensorlogic-tl
    scripts/language-bench/run.py "${CARGO_TARGET_DIR:-target}/release/tl" {{ROUNDS}}

# Data races in the kernels' threads, by ThreadSanitizer: needs a nightly toolchain with its rust-src. Minutes.
tsan:
    RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu -p tl-kernels --lib --target-dir target/tsan

# What `tl plan` says against what a process then takes, and the limits under which it runs and is refused, for model files.
memory-bound *MODELS:
    cargo build --release -p tensorlogic-tl
    scripts/memory-bound.py "${CARGO_TARGET_DIR:-target}/release/tl" {{MODELS}}

# What memory costs without pools, with the pool, reserved by layout, and by `reserve_for`.
memory-cost *MODELS:
    cargo run --release -p tensorlogic-rt --example memory_cost -- {{MODELS}}

# A hundred thousand decoded tokens with flat memory: minutes.
soak:
    cargo test -p tl-engine --release --test soak -- --ignored --nocapture

# TensorLogic beside llama.cpp and candle on the same files, in turns; `--help` says how.
compare *ARGS:
    cargo build --release -p tensorlogic-tl
    scripts/compare.py --tl "${CARGO_TARGET_DIR:-target}/release/tl" {{ARGS}}

# How far predictions are from llama.cpp's, for each instruction set; `--help` says how.
divergence *ARGS:
    cargo build --release -p tensorlogic-tl
    scripts/divergence.py --tl "${CARGO_TARGET_DIR:-target}/release/tl" {{ARGS}}

# What attention costs as a textbook writes it, beside the operation.
textbook-attention *ARGS:
    cargo run --release -p tensorlogic-tl -- run scripts/textbook-attention.tl -- {{ARGS}}

# Heap allocations and system calls of a decoded token, counted from outside. Linux; needs strace.
outside-counts MODEL="models/demo-q4_0.gguf":
    cargo build --release -p tensorlogic-tl
    scripts/outside-counts.sh "${CARGO_TARGET_DIR:-target}/release/tl" {{MODEL}}

# Parser, formatter, checker and evaluator on changed programs, for a number of seconds. What fails is kept in tests/corpus.
fuzz SECONDS="60":
    FUZZ_SECONDS={{SECONDS}} cargo test -p tl-language --test fuzz -- --ignored --nocapture
