#!/usr/bin/env python3
"""Writes tests/data/numpy-values.json: what NumPy computes for each builtin of TL, on awkward inputs.

The test `numpy_values` of tl-lang runs each expression as a program. NumPy is needed only here. Expected values are
computed in float64 from the inputs as they are stored. Usage: scripts/numpy_values.py
"""

import json
import math
import pathlib

import numpy as np

random = np.random.default_rng(7)
inputs = {}
cases = []
FLOATS = ["float32", "float16"]
SHAPES = [(), (1,), (0,), (3,), (2, 3), (3, 0, 2), (2, 1, 3), (1, 2, 1, 3), (2, 1, 2, 1, 2)]
ROUNDED = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "bool": np.bool_}


def number(x, dtype):
    """A JSON value with as many digits as the type can tell apart."""
    if dtype == "bool":
        return int(x)
    if dtype in ("int32", "int"):
        return int(x)
    if not np.isfinite(x):
        return "nan" if np.isnan(x) else "inf" if x > 0 else "-inf"
    return float(f"{float(x):.9g}" if dtype == "float32" else f"{float(x):.6g}" if dtype == "float16" else f"{float(x):.17g}")


def tensor(dtype, values):
    """Names an input. Its values are returned in float64, as they are stored."""
    stored = np.asarray(values).astype(ROUNDED[dtype])
    entry = [dtype, list(stored.shape), [number(x, dtype) for x in stored.ravel()]]
    for name, known in inputs.items():
        if json.dumps(known) == json.dumps(entry):
            return name, stored.astype(np.float64)
    name = f"x{len(inputs)}"
    inputs[name] = entry
    return name, stored.astype(np.float64)


def sample(dtype, shape, low=-3.0, high=3.0):
    if dtype == "bool":
        return tensor(dtype, random.integers(0, 2, shape))
    if dtype == "int32":
        return tensor(dtype, random.integers(int(low), int(high) + 1, shape))
    return tensor(dtype, np.round(random.uniform(low, high, shape), 2))


def case(key, expression, dtype, expected):
    """A tensor of this type is expected; or plain numbers, for the types `int`, `float` and `list`."""
    expected = np.asarray(expected)
    if dtype in ROUNDED:
        with np.errstate(all="ignore"):
            expected = expected.astype(ROUNDED[dtype])
    kind = "float" if dtype == "list" else dtype
    cases.append([key, expression, dtype, list(expected.shape), [number(x, kind) for x in expected.ravel()]])


def views(dtype, shape, low=-3.0, high=3.0):
    """The same expression of a tensor in several arrangements: as it is, transposed, cut out."""
    name, x = sample(dtype, shape, low, high)
    yield name, x
    if len(shape) >= 2:
        yield f"transpose({name})", np.swapaxes(x, -1, -2)
        yield f"{name}[.., {name}.shape()[1] / 2..]", x[:, shape[1] // 2 :]


def unary():
    erf = np.vectorize(math.erf, otypes=[np.float64])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    functions = {
        "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh,
        "sigmoid": sigmoid, "softplus": lambda x: np.logaddexp(x, 0), "silu": lambda x: x * sigmoid(x),
        "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "floor": np.floor, "ceil": np.ceil, "round": np.round, "relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0)),
    }
    for name, f in functions.items():
        for dtype in FLOATS:
            for shape in SHAPES:
                low = 0.1 if name in ("log", "sqrt") else -3.0
                for text, x in views(dtype, shape, low) if shape == (2, 3) else [sample(dtype, shape, low)]:
                    case(f"Elementwise/{name}", f"{name}({text})", dtype, f(x))
            special = [math.nan, math.inf, 0.0, -0.0, 0.5, 2.5, -1e-3] + ([] if name in ("sin", "cos", "tan", "silu", "gelu", "gelu_tanh") else [-math.inf])
            if name in ("sin", "cos", "tan", "gelu", "gelu_tanh", "silu"):
                special.remove(math.inf)
            text, x = tensor(dtype, special)
            case(f"Elementwise/{name}", f"{name}({text})", dtype, f(x))
    for dtype in ["float32", "float16", "int32"]:
        for shape in SHAPES:
            text, x = sample(dtype, shape)
            case("Elementwise/abs", f"abs({text})", dtype, np.abs(x))
            case("Elementwise/neg", f"-{text}", dtype, -x)
            case("Elementwise/clamp", f"clamp({text}, -1, 2)", dtype, np.clip(x, -1, 2))
    for dtype in FLOATS:
        text, x = tensor(dtype, [math.nan, math.inf, -math.inf, 0.0, 1.0])
        case("Elementwise/is_nan", f"is_nan({text})", "bool", np.isnan(x))
        case("Elementwise/clamp", f"clamp({text}, max: 0.5)", dtype, np.minimum(x, 0.5))
        case("Elementwise/abs", f"abs({text})", dtype, np.abs(x))
    for shape in SHAPES:
        text, x = sample("bool", shape)
        case("Elementwise/logical_not", f"not {text}", "bool", x == 0)
    for source in ROUNDED:
        for target in ROUNDED:
            text, x = sample(source, (2, 3))
            case("Elementwise/cast", f"{text} as {target}", target, x != 0 if target == "bool" else np.trunc(x) if target == "int32" else x)


def binary():
    pairs = [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 3), (1, 3)), ((2, 1, 3), (4, 1)), ((1, 2, 1, 2, 1), (3, 1, 2)), ((1,), (1,))]
    arithmetic = {"add": ("+", np.add), "sub": ("-", np.subtract), "mul": ("*", np.multiply), "div": ("/", np.divide), "rem": ("%", np.fmod)}
    compare = {"equal": ("==", np.equal), "not_equal": ("!=", np.not_equal), "less": ("<", np.less), "less_equal": ("<=", np.less_equal), "greater": (">", np.greater), "greater_equal": (">=", np.greater_equal)}
    for dtype in ["float32", "float16", "int32"]:
        for left, right in pairs:
            (a, x), (b, y) = sample(dtype, left), sample(dtype, right)
            nonzero = (f"({b} * {b} + 1)", y * y + 1)
            for name, (sign, f) in arithmetic.items():
                text, divisor = nonzero if name in ("div", "rem") else (b, y)
                if name == "div" and dtype == "int32":
                    case("Elementwise/div", f"{a} / {text}", dtype, np.trunc(x / divisor))
                else:
                    if name in ("div", "rem") and dtype != "int32":
                        divisor = (y.astype(ROUNDED[dtype]) * y.astype(ROUNDED[dtype]) + ROUNDED[dtype](1)).astype(np.float64)
                    case(f"Elementwise/{name}", f"{a} {sign} {text}", dtype, f(x, divisor))
            for name, (sign, f) in compare.items():
                case(f"Elementwise/{name}", f"{a} {sign} {b}", "bool", f(x, y))
            case("Elementwise/minimum", f"minimum({a}, {b})", dtype, np.minimum(x, y))
            case("Elementwise/maximum", f"maximum({a}, {b})", dtype, np.maximum(x, y))
            case("Elementwise/pow", f"abs({a}) ** 2", dtype, np.abs(x) ** 2)
            case("Elementwise/where", f"where({a} < {b}, {a}, {b})", dtype, np.where(x < y, x, y))
            case("Elementwise/sub", f"2 - {a}", dtype, 2 - x)
    for dtype in FLOATS:
        (a, x), (b, y) = tensor(dtype, [math.nan, 1.0, math.inf, -math.inf, 0.0]), tensor(dtype, [1.0, math.nan, math.inf, 2.0, -0.0])
        for name, (sign, f) in (arithmetic | compare).items():
            with np.errstate(all="ignore"):
                case(f"Elementwise/{name}", f"{a} {sign} {b}", "bool" if name in compare else dtype, f(x, y))
        case("Elementwise/minimum", f"minimum({a}, {b})", dtype, np.minimum(x, y))
        case("Elementwise/maximum", f"maximum({a}, {b})", dtype, np.maximum(x, y))
        (a, x), (b, y) = sample(dtype, (2, 3), 0.2, 3.0), sample(dtype, (3,))
        case("Elementwise/pow", f"{a} ** {b}", dtype, x**y)
    for left, right in pairs:
        (a, x), (b, y) = sample("bool", left), sample("bool", right)
        case("Elementwise/logical_and", f"{a} and {b}", "bool", np.logical_and(x, y))
        case("Elementwise/logical_or", f"{a} or {b}", "bool", np.logical_or(x, y))


def reductions():
    functions = {
        "sum": (np.sum, ["float32", "float16", "int32", "bool"]), "mean": (np.mean, FLOATS), "max": (np.max, ["float32", "float16", "int32"]),
        "min": (np.min, ["float32", "float16", "int32"]), "prod": (np.prod, ["float32", "float16", "int32"]), "any": (np.any, list(ROUNDED)),
        "all": (np.all, list(ROUNDED)), "var": (np.var, FLOATS), "std": (np.std, FLOATS),
        "norm": (lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)), FLOATS),
    }
    for name, (f, dtypes) in functions.items():
        for dtype in dtypes:
            result = "bool" if name in ("any", "all") else "int32" if dtype == "bool" else dtype
            for shape in SHAPES:
                if 0 in shape and name in ("max", "min", "mean", "var", "std"):
                    continue
                for text, x in views(dtype, shape) if shape == (2, 3) else [sample(dtype, shape)]:
                    case(f"Reduce/{name}", f"{name}({text})", result, f(x))
                    for axis in range(-len(shape), 0):
                        case(f"Reduce/{name}", f"{name}({text}, {axis})", result, f(x, axis=axis))
                    if shape:
                        case(f"Reduce/{name}", f"{name}({text}, 0, keepdim: true)", result, f(x, axis=0, keepdims=True))
    for name, f in {"argmax": np.argmax, "argmin": np.argmin}.items():
        for dtype in ["float32", "float16", "int32"]:
            for shape in [s for s in SHAPES if s and 0 not in s]:
                text, x = sample(dtype, shape)
                case(f"Tensors/{name}", f"{name}({text})", "int", f(x))
                for axis in range(-len(shape), 0):
                    case(f"Reduce/{name}", f"{name}({text}, {axis})", "int32", f(x, axis=axis))
    for dtype in ["float32", "float16", "int32"]:
        for shape in [s for s in SHAPES if s]:
            text, x = sample(dtype, shape)
            for axis in range(-len(shape), 0):
                case("Reduce/sort", f"sort({text}, {axis})", dtype, np.sort(x, axis=axis))
                case("Reduce/sort", f"sort({text}, {axis}, descending: true)", dtype, -np.sort(-x, axis=axis))
                case("Reduce/argsort", f"argsort({text}, {axis})", "int32", np.argsort(x, axis=axis, kind="stable"))
                case("Reduce/cumsum", f"cumsum({text}, {axis})", dtype, np.cumsum(x, axis=axis))
                if x.shape[axis] >= 1 and x.size:
                    case("Reduce/topk", f"topk({text}, 1, {axis})", dtype, np.max(x, axis=axis, keepdims=True))
                    case("Reduce/argtopk", f"argtopk({text}, 1, {axis})", "int32", np.argmax(x, axis=axis, keepdims=True))
    for dtype in FLOATS:
        for shape in [s for s in SHAPES if s]:
            text, x = sample(dtype, shape)
            for axis in range(-len(shape), 0):
                if x.shape[axis] == 0:
                    continue
                e = np.exp(x - x.max(axis=axis, keepdims=True)) if x.size else x
                case("Reduce/softmax", f"softmax({text}, {axis})", dtype, e / e.sum(axis=axis, keepdims=True))
                case("Reduce/log_softmax", f"log_softmax({text}, {axis})", dtype, np.log(e / e.sum(axis=axis, keepdims=True)))
        text, x = tensor(dtype, [3.0, math.nan, -math.inf, math.inf, 1.0])
        case("Reduce/sort", f"sort({text})", dtype, np.sort(x))
        for name in ("sum", "max", "min"):
            case(f"Reduce/{name}", f"{name}({text})", dtype, math.nan)
    text, x = sample("bool", (2, 3))
    case("Reduce/cumsum", f"cumsum({text})", "int32", np.cumsum(x, axis=-1))


def shapes():
    for dtype in ROUNDED:
        text, x = sample(dtype, (2, 3, 4))
        for view, y in [(text, x), (f"transpose({text})", np.swapaxes(x, -1, -2)), (f"{text}[.., 1..3]", x[:, 1:3])]:
            n = y.shape
            case("Shape/reshape", f"reshape({view}, [{n[0] * n[1]}, -1])", dtype, y.reshape(n[0] * n[1], -1))
            case("Shape/flatten", f"flatten({view})", dtype, y.ravel())
            case("Shape/transpose", f"transpose({view}, 0, -1)", dtype, np.swapaxes(y, 0, -1))
            case("Shape/permute", f"permute({view}, [2, 0, 1])", dtype, np.transpose(y, (2, 0, 1)))
            case("Shape/unsqueeze", f"unsqueeze({view}, 1)", dtype, y[:, None])
            case("Shape/squeeze", f"squeeze({view}[.., 0..1], 1)", dtype, y[:, 0])
            case("Shape/broadcast_to", f"broadcast_to({view}, [2, {n[0]}, {n[1]}, {n[2]}])", dtype, np.broadcast_to(y, (2, *n)))
            case("Shape/slice", f"slice({view}, -1, 1, 3)", dtype, y[..., 1:3])
            case("Shape/slice_last", f"slice_last({view}, 1)", dtype, y[:, -1:])
            case("Shape/select", f"select({view}, 1, -1)", dtype, y[:, -1])
            case("Shape/select", f"{view}[-1, .., 0]", dtype, y[-1, :, 0])
            case("Shape/contiguous", f"contiguous({view})", dtype, y)
            case("Shape/concat", f"concat([{view}, {view}], -1)", dtype, np.concatenate([y, y], -1))
            case("Shape/index_select", f"index_select({view}, -1, [1, 0, -1])", dtype, y[..., [1, 0, -1]])
            case("Shape/index_select", f"{view}[.., [[0, 1], [1, 0]] as int32]", dtype, y[:, [[0, 1], [1, 0]]])
            index, i = tensor("int32", random.integers(0, 2, (2, 2, 2)))
            z = y[:, :, :2]
            case("Shape/gather", f"gather({view}[.., .., 0..2], 1, {index})", dtype, np.take_along_axis(z, i.astype(int), 1))
            source, s = sample(dtype, (1, n[1], n[2]))
            zeros = f"zeros([1, {n[1]}, {n[2]}], int32)"
            put = y.copy()
            put[0:1] = s
            case("Shape/scatter", f"scatter({view}, 0, {zeros}, {source})", dtype, put)
            case("Tensors/split", f"split({view}, 1)[1]", dtype, y[1:2])
            case("Tensors/chunk", f"chunk({view}, 2, -1)[0]", dtype, y[..., : (n[2] + 1) // 2])
            case("Tensors/shape", f"shape({view})", "list", y.shape)
            case("Tensors/rank", f"rank({view})", "int", 3)
            case("Lists/len", f"len({view})", "int", n[0])
            case("Tensors/to_list", f"to_list(flatten({view}))", "list", y.ravel())
            case("Tensors/item", f"item({view}[0, 0, 1])", "list", y[0, 0, 1])
    case("Tensors/from_list", "from_list([[1, 2.5], [-3, 0]])", "float16", [[1, 2.5], [-3, 0]])
    case("Tensors/from_list", "from_list([true, false], bool)", "bool", [1, 0])


def create():
    for dtype in ROUNDED:
        for shape in [s for s in SHAPES if s]:
            case("Create/zeros", f"zeros({list(shape)}, {dtype})", dtype, np.zeros(shape))
            case("Create/ones", f"ones({list(shape)}, {dtype})", dtype, np.ones(shape))
            case("Create/full", f"full({list(shape)}, 1, {dtype})", dtype, np.full(shape, 1))
    for dtype in FLOATS + ["int32"]:
        case("Create/arange", f"arange(2, 11, 3, {dtype})", dtype, np.arange(2, 11, 3))
        case("Create/arange", f"arange(3, -4, -2, {dtype})", dtype, np.arange(3, -4, -2))
        case("Create/arange", f"arange(3, 3, 1, {dtype})", dtype, [])
        case("Create/eye", f"eye(3, {dtype})", dtype, np.eye(3))
    angles = np.arange(5)[:, None] / 10000 ** (np.arange(0, 6, 2) / 6)
    for dtype in FLOATS:
        both = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(5, 6)
        case("Create/positional_encoding", f"positional_encoding(5, 6, {dtype})", dtype, both)
    case("Create/causal_mask", "causal_mask(3)", "bool", np.tri(3))
    case("Create/causal_mask", "causal_mask(2, 5)", "bool", np.tri(2, 5, 3))


def linear():
    for dtype in FLOATS:
        for left, right in [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((1, 1), (1, 1))]:
            (a, x), (b, y) = sample(dtype, left), sample(dtype, right)
            case("Linear algebra/matmul", f"{a} @ {b}", dtype, x @ y)
            if len(left) == 2 and len(right) == 2:
                (c, z) = sample(dtype, (right[1],))
                case("Linear algebra/linear", f"linear({a}, transpose({b}), {c})", dtype, x @ y + z)
                case("Linear algebra/matmul", f"transpose({b}) @ transpose({a})", dtype, y.T @ x.T)
        (x, xs), (w, ws), (b, bs) = sample(dtype, (2, 4)), sample(dtype, (3, 5, 4)), sample(dtype, (3, 5))
        e, es = tensor("int32", [[0, 2], [1, 1]])
        es = es.astype(int)
        expected = np.einsum("tjoi,ti->tjo", ws[es], xs) + bs[es]
        case("Linear algebra/linear_experts", f"linear_experts({x}, {w}, {e}, {b})", dtype, expected)
    specs = [("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ba", [(2, 3)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]), ("...ij,...jk", [(2, 1, 2, 3), (4, 3, 2)]), ("ij->", [(2, 3)]), ("i,j", [(2,), (0,)]), ("ij,ij,ij->i", [(2, 3)] * 3), ("ij,jk,kl->li", [(2, 3), (3, 4), (4, 2)]), ("...,...i->i...", [(2,), (2, 3)]), ("abc,cd,dab->", [(2, 3, 2), (2, 4), (4, 2, 3)]), ("a,b,c,d", [(1,), (2,), (1,), (2,)])]
    for dtype in ROUNDED:
        for spec, operands in specs:
            named = [sample(dtype, shape, -2, 2) for shape in operands]
            expected = np.einsum(spec, *[x for _, x in named])
            if dtype == "float16" and len(operands) > 2:
                continue
            texts = ", ".join(name for name, _ in named)
            case("Linear algebra/einsum", f'einsum("{spec}", {texts})', dtype, expected > 0 if dtype == "bool" else expected)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def transformer():
    for dtype in FLOATS:
        (x, xs), (w, ws), (b, bs) = sample(dtype, (2, 3, 4)), sample(dtype, (4,)), sample(dtype, (4,))
        mean, var = xs.mean(-1, keepdims=True), xs.var(-1, keepdims=True)
        case("Transformer/rms_norm", f"rms_norm({x}, {w})", dtype, xs / np.sqrt((xs * xs).mean(-1, keepdims=True) + 1e-5) * ws)
        case("Transformer/layer_norm", f"layer_norm({x}, {w}, {b})", dtype, (xs - mean) / np.sqrt(var + 1e-5) * ws + bs)
        u, us = sample(dtype, (2, 3, 4))
        case("Transformer/swiglu", f"swiglu({x}, {u})", dtype, xs / (1 + np.exp(-xs)) * us)
        mask, m = sample("bool", (3, 4))
        case("Transformer/apply_attention_mask", f"apply_attention_mask({x}, {mask})", dtype, np.where(m > 0, xs, -np.inf))
        added, ms = sample(dtype, (3, 4))
        case("Transformer/apply_attention_mask", f"apply_attention_mask({x}, {added})", dtype, xs + ms)
        case("Transformer/embedding", f"embedding({x}[0], [2, 0, 2], {dtype})", dtype, xs[0][[2, 0, 2]])
        angles = (5 + np.arange(2))[:, None, None] * 100.0 ** (-np.arange(0, 4, 2) / 4)
        sin, cos = np.sin(angles), np.cos(angles)
        first, second = xs[..., 0::2], xs[..., 1::2]
        turned = np.stack([first * cos - second * sin, first * sin + second * cos], -1).reshape(xs.shape)
        case("Transformer/rope", f"rope({x}, pos: 5, base: 100.0)", dtype, turned)
        first, second = xs[..., :2], xs[..., 2:]
        turned = np.concatenate([first * cos - second * sin, first * sin + second * cos], -1)
        case("Transformer/rope", f"rope({x}, pos: 5, base: 100.0, halves: true)", dtype, turned)
        (q, qs), (k, ks), (v, vs) = sample(dtype, (2, 4, 3)), sample(dtype, (5, 2, 3)), sample(dtype, (5, 2, 2))
        scores = np.einsum("ihd,jhd->hij", qs, ks.repeat(2, 1)) / math.sqrt(3)
        for causal in (True, False):
            seen = np.where(np.tri(2, 5, 3) > 0, scores, -np.inf) if causal else scores
            expected = np.einsum("hij,jhe->ihe", softmax(seen), vs.repeat(2, 1))
            case("Transformer/attention", f"attention({q}, {k}, {v}, causal: {str(causal).lower()})", dtype, expected)
    pair_of = lambda turns: 64 * math.log(4096 / (turns * 2 * math.pi)) / (2 * math.log(10000.0))
    low, high = max(math.floor(pair_of(32.0)), 0), min(math.ceil(pair_of(1.0)), 63)
    part = np.clip((np.arange(32) - low) / (high - low), 0, 1)
    case("Transformer/yarn_factors", "yarn_factors(64, 10000.0, 8.0, 4096)", "float32", 1 / (part / 8 + (1 - part)))


def plain():
    for name, f in {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "floor": np.floor, "ceil": np.ceil, "round": np.round, "abs": np.abs}.items():
        for x in [0.25, 2.5, 1e-3, 7.0]:
            case(f"Numbers/{name}", f"{name}({x})", "float", f(x))
    case("Numbers/is_nan", 'int(is_nan(float("nan")))', "int", 1)
    case("Numbers/pow", "pow(2.5, 3)", "float", 2.5**3)
    case("Numbers/minimum", "minimum(2, -3)", "int", -3)
    case("Numbers/maximum", "maximum(2.5, -3)", "float", 2.5)
    case("Numbers/int", "int(-2.7)", "int", -2)
    case("Numbers/float", "float(3)", "float", 3.0)
    case("Numbers/range", "len(range(2, 5))", "int", 3)
    values = [3.5, -1.25, 2.0, 3.5]
    for name, f in {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}.items():
        case(f"Lists/{name}", f"{name}({values})", "float", f(values))
    case("Lists/argmax", f"argmax({values})", "int", 0)
    case("Lists/argmin", f"argmin({values})", "int", 1)
    case("Lists/sort", f"sort({values})", "list", np.sort(values))
    case("Lists/reverse", f"reverse({values})", "list", values[::-1])
    case("Lists/append", "append([1, 2], 3)", "list", [1, 2, 3])
    case("Lists/contains", f"int(contains({values}, 2.0))", "int", 1)


def places():
    for shape in [(3,), (2, 3), (2, 1, 3)]:
        name, x = sample("bool", shape)
        found = np.argwhere(x)
        case("Tensors/places", f"len(places({name}))", "int", len(found))
        case("Tensors/places", f"places({name}) as int32", "int32", found[:, 0] if len(shape) == 1 else found)
        case("Tensors/mask", f"mask({list(shape)}, {found.tolist()})", "bool", x)
        base, y = sample("bool", shape)
        case("Tensors/mask", f"mask({list(shape)}, {found.tolist()}, {base})", "bool", np.logical_or(x, y))


def main():
    with np.errstate(all="ignore"):
        for part in (unary, binary, reductions, shapes, create, linear, transformer, plain, places):
            part()
    lines = [json.dumps(entry, separators=(",", ":")) for entry in cases]
    named = [f"{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}" for name, entry in inputs.items()]
    text = '{"inputs":{\n' + ",\n".join(named) + '\n},"cases":[\n' + ",\n".join(lines) + "\n]}\n"
    path = pathlib.Path(__file__).parent.parent / "tests/data/numpy-values.json"
    path.write_text(text)
    print(f"{len(cases)} cases, {len(inputs)} inputs, {len(text)} bytes: {path}")


main()
