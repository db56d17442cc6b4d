// Counts a process's heap allocations from outside, for scripts/outside-counts.sh:
//
//     cc -O2 -shared -fPIC -o count-malloc.so scripts/count-malloc.c
//     LD_PRELOAD=./count-malloc.so PROGRAM ...
//
// It stands before the C library's allocator, counts, and passes every request on. When the process ends it writes one line to
// standard error: `heap: N allocations, B bytes`. What is freed is not counted: a step that allocates and frees allocates.
// Linux with glibc, whose allocator it calls by the names that glibc has for it beside the usual ones.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *old, size_t len);
void *__libc_memalign(size_t align, size_t len);

static atomic_ullong allocations, bytes;

static void count(size_t len) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes, len, memory_order_relaxed);
}

void *malloc(size_t len) {
    count(len);
    return __libc_malloc(len);
}

void *calloc(size_t n, size_t len) {
    count(n * len);
    return __libc_calloc(n, len);
}

void *realloc(void *old, size_t len) {
    count(len);
    return __libc_realloc(old, len);
}

void *memalign(size_t align, size_t len) {
    count(len);
    return __libc_memalign(align, len);
}

void *aligned_alloc(size_t align, size_t len) {
    count(len);
    return __libc_memalign(align, len);
}

int posix_memalign(void **out, size_t align, size_t len) {
    count(len);
    *out = __libc_memalign(align, len);
    return *out || !len ? 0 : ENOMEM;
}

__attribute__((destructor)) static void report(void) {
    char line[96];
    // Into memory of its own, and past the buffers of a process that is ending.
    int len = snprintf(line, sizeof line, "heap: %llu allocations, %llu bytes\n", atomic_load(&allocations), atomic_load(&bytes));
    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0) return;
}
