#!/usr/bin/env bash
# What a decoded token costs beside the computation, counted from outside the program: heap allocations (by a library before the
# allocator) and system calls (by strace). `tl generate` and the script examples/generate.tl each write a text twice, the second
# time a longer one; what the second run has more is what the additional tokens cost.
#
#     scripts/outside-counts.sh TL MODEL.gguf [COUNT_MALLOC.so]
#
# The library is built from scripts/count-malloc.c where none is given. The environment may set FEW and MORE (50 and 100 tokens; 50
# apart or more) and THREADS (one for each core). Exit status 1 where a token allocates, or calls the system for anything but one
# `write` of its text. Of any other call the whole longer run may make one more for every four of the additional tokens: on a busy
# machine the system decides over some calls of the C library (which thread ends first, where its memory lies), and what a token
# does shows in every token. The C library keeps one arena (MALLOC_ARENA_MAX), as the number of heap allocations is counted apart.
# Threads waiting for each other (futex, sched_yield) are shown and judged by nobody here. Linux with glibc, cc, strace.
set -euo pipefail
# `sort` and `join` must agree on the order.
export LC_ALL=C

fail() { printf 'outside-counts.sh: %s\n' "$*" >&2; exit 2; }

if [ $# -lt 2 ] || [ $# -gt 3 ]; then sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
here="$(cd "$(dirname "$0")" && pwd)"
tl="$(realpath -- "$1")" model="$(realpath -- "$2")" library="${3:-}"
few="${FEW:-50}" more="${MORE:-100}" threads="${THREADS:-$(nproc)}"
[ -x "$tl" ] || fail "$1: no such program"
[ -r "$model" ] || fail "$2: no such file"
[ $((more - few)) -ge 50 ] || fail "MORE is $more, which is not 50 more than FEW, $few"
command -v strace >/dev/null || fail "strace is missing (on Debian: apt install strace)"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
if [ -z "$library" ]; then
    library="$folder/count-malloc.so"
    "${CC:-cc}" -O2 -shared -fPIC -o "$library" "$here/count-malloc.c"
fi
library="$(realpath -- "$library")"

# A text of so many tokens behind the prompt. It goes to a file, so that writing waits for nobody. The words behind the two
# arguments are put before the program.
run() { # generate|script TOKENS WORD...
    local what="$1" tokens="$2" command
    shift 2
    if [ "$what" = generate ]; then
        command=(generate "$model" --prompt "The memory" --max-tokens "$tokens" --temperature 0 --context "$((more + 32))")
    else
        command=(run "$folder/$tokens.tl")
    fi
    local args=()
    [ "$what" = generate ] || args=(-- "The memory" "$model")
    MALLOC_ARENA_MAX=1 "$@" "$tl" "${command[@]}" --threads "$threads" "${args[@]}" >"$folder/text" 2>"$folder/errors" ||
        { cat "$folder/errors" >&2; fail "the program failed, or $1 may not be used here"; }
}

heap() { # generate|script TOKENS
    run "$1" "$2" env LD_PRELOAD="$library"
    sed -n 's/^heap: \([0-9]*\) allocations.*/\1/p' "$folder/errors"
}

calls() { # generate|script TOKENS
    run "$1" "$2" strace -f -c -o "$folder/strace"
    # The columns of strace's table: share, seconds, each, calls, errors if any, name.
    awk '$1 ~ /^[0-9.]+$/ && $NF != "total" { print $NF, $4 }' "$folder/strace" | sort -k1,1
}

row() { # NAME FEWER MORE
    awk -v name="$1" -v fewer="$2" -v more="$3" -v n="$((more - few))" \
        'BEGIN { printf "| %s | %d | %d | %.2f |\n", name, fewer, more, (more - fewer) / n }'
}

# More calls of one name in a whole run that count as none.
allowed=$(((more - few) / 4))
status=0
count() { # generate|script TITLE
    local heap_few heap_more name before after written=0
    heap_few="$(heap "$1" "$few")" heap_more="$(heap "$1" "$more")"
    [ -n "$heap_few" ] && [ -n "$heap_more" ] || fail "$library printed no count: does the program use another allocator?"
    calls "$1" "$few" >"$folder/few"
    calls "$1" "$more" >"$folder/more"
    printf '%s, %s threads\n\n| | %s tokens | %s tokens | for each token more |\n|---|---|---|---|\n' "$2" "$threads" "$few" "$more"
    row "heap allocations" "$heap_few" "$heap_more"
    [ "$heap_few" = "$heap_more" ] || status=1
    while read -r name before after; do
        [ "$before" = "$after" ] || row "$name" "$before" "$after"
        case "$name" in
        futex | sched_yield) ;;
        write) written=$((after - before)) ;;
        *) [ $((after - before)) -le "$allowed" ] || status=1 ;;
        esac
    done < <(join -a 1 -a 2 -e 0 -o 0,1.2,2.2 "$folder/few" "$folder/more")
    echo
    # Fewer writes than tokens: some tokens are parts of a character. None: the text was as short in both runs.
    [ "$written" -gt 0 ] || fail "the model ended its text within $few tokens; set FEW lower or take another model"
    [ "$written" -le $((more - few)) ] || status=1
}

# The script generates until its context is full; here until it has so many tokens, in the same context both times.
for tokens in "$few" "$more"; do
    sed "s/len(ids) + 99/len(ids) + $more/; s/cache.len == context/n == $tokens/" "$here/../examples/generate.tl" >"$folder/$tokens.tl"
    grep -q "len(ids) + $more" "$folder/$tokens.tl" && grep -q " n == $tokens " "$folder/$tokens.tl" ||
        fail "examples/generate.tl has changed: \`len(ids) + 99\` and \`cache.len == context\` were to be replaced"
done

count generate "tl generate"
count script "examples/generate.tl"
if [ "$status" = 0 ]; then
    echo "Nothing on the heap, and no system call but to write the text (up to $allowed more of a call in a whole run count as none)."
else
    echo "outside-counts.sh: a token costs more than one write" >&2
fi
exit "$status"
