"""The micro-benchmarks of bench.tl for Python and NumPy. Each line: a name and milliseconds."""

import time
from dataclasses import dataclass

import numpy as np


def loops(n):
    s = 0
    for i in range(n):
        s = s + i * 3 % 7
    return s


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def index(n):
    l = []
    for i in range(1000):
        l.append(i)
    s = 0
    for _ in range(n):
        for i in range(1000):
            s += l[i]
    return s


def appends(n):
    l = []
    for i in range(n):
        l.append(i)
    return len(l)


def joins(n):
    l = []
    for i in range(n):
        l += [i]
    return len(l)


def strings(n):
    s = ""
    for _ in range(n):
        s += "x"
    return len(s)


def floats(n):
    x = 0.5
    i = 0
    while i < n:
        x = x * 3.9 * (1.0 - x)
        i += 1
    return x


def sieve(n):
    p = []
    for _ in range(n):
        p.append(1)
    i = 2
    while i * i < n:
        if p[i] == 1:
            j = i * i
            while j < n:
                p[j] = 0
                j += i
        i += 1
    c = 0
    for k in range(2, n):
        c += p[k]
    return c


def maps(n):
    m = {}
    for i in range(n):
        k = i % 100
        m[k] = m.get(k, 0) + 1
    return m[7]


def elements(n):
    l = []
    for i in range(1000):
        l.append(float(i))
    s = 0.0
    for _ in range(n):
        for x in l:
            s += x
    return s


@dataclass
class Point:
    x: float
    y: float

    def moved(self, d):
        return Point(self.x + d, self.y - d)


def structs(n):
    p = Point(0.0, 0.0)
    for _ in range(n):
        p = p.moved(0.5)
    return p.x


def small_tensors(n):
    x = np.ones((4, 4), np.float16)
    half, one = np.float16(0.5), np.float16(1)
    for _ in range(n):
        x = x * half + one
    return float(x[0, 0])


def small_products(n):
    x, w = np.ones((8, 8), np.float32), np.eye(8, dtype=np.float32)
    for _ in range(n):
        x = x @ w
    return float(x[0, 0])


for name, run, n in [
    ("loops", loops, 1000000),
    ("calls", fib, 24),
    ("list indexing", index, 500),
    ("appends to a list", appends, 200000),
    ("lists joined", joins, 200000),
    ("appends to a string", strings, 200000),
    ("float arithmetic", floats, 500000),
    ("sieve", sieve, 200000),
    ("maps", maps, 200000),
    ("elements of a list", elements, 300),
    ("structs and methods", structs, 100000),
    ("small tensors", small_tensors, 50000),
    ("small products", small_products, 50000),
]:
    start = time.perf_counter()
    run(n)
    print(name, (time.perf_counter() - start) * 1000)
