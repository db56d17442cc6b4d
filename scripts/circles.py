#!/usr/bin/env python3
"""Files of a crate that import each other in a circle.

    scripts/circles.py [--arrows] [CRATE...]

reads the Rust files under crates/*/src, and finds which file takes names from which: `use` declarations and paths that begin with
`crate`, `super` or `self`, followed through re-exports to the file that defines the name. What a declaration `mod x;` alone does is no
import, and tests (`#[cfg(test)]`) are left out. Prints each circle with the names that tie it, or with --arrows every import.

Exit status: 0 no circle; 1 there are circles; 2 wrong usage. Python 3.9, its standard library.
"""
import argparse
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ITEM = re.compile(
    r"\b(?:fn|struct|enum|union|trait|type|const|static|mod|macro_rules!)\s+(?:mut\s+)?(r#)?([A-Za-z_]\w*)"
)
PATH = re.compile(r"\b(crate|super|self)((?:::(?:super|\w+))+)")
USE = re.compile(r"(?:^|[;{}\s])((?:pub(?:\([^)]*\))?\s+)?)use\s+([^;]+);")


def without_comments(text):
    """The text with comments and the contents of string literals taken out."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\\'])\'', re.S
    )
    return pattern.sub(lambda m: '""' if '"' in m.group(0)[:4] else " ", text)


def without_tests(text):
    """The text without items that are compiled for tests alone."""
    out, at = [], 0
    for match in re.finditer(r"#\[cfg\((?:all\()?test\b[^\]]*\]", text):
        if match.start() < at:
            continue
        out.append(text[at : match.start()])
        depth, i = 0, match.end()
        while i < len(text):
            if text[i] == "{":
                depth += 1
            elif text[i] == "}":
                depth -= 1
                if depth == 0:
                    i += 1
                    break
            elif text[i] == ";" and depth == 0:
                i += 1
                break
            i += 1
        at = i
    out.append(text[at:])
    return "".join(out)


def leaves(tree):
    """The paths of a use tree, each with the name it is bound to: `a::{b, c as d}` gives (a, b; b), (a, c; d)."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        path = [part.strip() for part in path.split("::") if part.strip()]
        if path and path[-1] == "self":
            path.pop()
        return [(path, alias.strip() or (path[-1] if path else ""))]
    prefix = [part.strip() for part in tree[:brace].split("::") if part.strip()]
    inner, depth, part, parts = tree[brace + 1 : tree.rfind("}")], 0, "", []
    for letter in inner:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    parts.append(part)
    return [
        (prefix + path, name)
        for piece in parts
        if piece.strip()
        for path, name in leaves(piece)
    ]


class Module:
    """A file: its path in the crate, what it defines, and what it binds names to."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        text = without_tests(without_comments(file.read_text()))
        self.uses = [
            leaf for match in USE.finditer(text) for leaf in leaves(match.group(2))
        ]
        body = USE.sub(" ", text)
        self.paths = [
            [match.group(1), *match.group(2).split("::")[1:]]
            for match in PATH.finditer(body)
        ]
        self.children = set(re.findall(r"\bmod\s+(\w+)\s*;", body))
        self.items = {match.group(2) for match in ITEM.finditer(body)} - self.children
        # `folder::model`, where `folder` may be a module that the file declares or imports.
        self.pairs = set(re.findall(r"(?<![\w:])([a-z_]\w*)::(\w+)", body))


def modules_of(source):
    found = {}
    for file in sorted(source.rglob("*.rs")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        if parts[-1] in ("lib", "main", "mod"):
            parts.pop()
        if parts[-1:] == ["tests"]:
            continue
        found[tuple(parts)] = Module(file, tuple(parts))
    return found


def resolve(modules, module, path, seen=()):
    """The module that defines what a path means, seen from a module, and the name taken from it."""
    path = list(path)
    here = module.path
    if path[0] == "crate":
        here, path = (), path[1:]
    elif path[0] in ("self", "super"):
        while path and path[0] in ("self", "super"):
            here = here[:-1] if path[0] == "super" else here
            path.pop(0)
    elif path[0] not in module.children:
        return None
    while path and here + (path[0],) in modules:
        here, path = here + (path[0],), path[1:]
    target = modules.get(here)
    if target is None:
        return None
    if not path or path[0] == "*":
        return target, "*" if path else ""
    name = path[0]
    if name in target.items or (here, name) in seen:
        return target, name
    for other, bound in target.uses:
        if other and bound == name:
            found = resolve(modules, target, other, (*seen, (here, name)))
            return found
    for other, bound in target.uses:
        if bound == "*":
            found = resolve(modules, target, [*other[:-1], name], (*seen, (here, name)))
            if found and name in found[0].items:
                return found
    return target, name


def arrows_of(modules):
    arrows = collections.defaultdict(set)
    for module in modules.values():
        imported = {
            bound: path
            for path, bound in module.uses
            if path and (found := resolve(modules, module, path)) and not found[1]
        }
        pairs = [
            [*imported.get(first, [first]), second]
            for first, second in module.pairs
            if first in imported or first in module.children
        ]
        for path in [path for path, _ in module.uses if path] + module.paths + pairs:
            found = resolve(modules, module, path)
            if found and found[0] is not module and found[1]:
                if is_reexport(module, path):
                    continue
                arrows[module.file, found[0].file].add(found[1])
    return arrows


def is_reexport(module, path):
    """Whether a file only hands the name on: it declares modules and re-exports them."""
    return module.file.name in ("lib.rs", "mod.rs") and any(
        p == path for p, _ in module.uses
    ) and not module.items


def circles_of(arrows):
    """Tarjan's strongly connected components of more than one file."""
    follow = collections.defaultdict(set)
    for source, target in arrows:
        follow[source].add(target)
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in sorted(follow[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                other = stack.pop()
                on.discard(other)
                group.append(other)
                if other == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10000)
    for node in sorted(set(follow)):
        if node not in index:
            visit(node)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arrows", action="store_true", help="print every import too")
    parser.add_argument("crates", nargs="*", metavar="CRATE")
    arguments = parser.parse_args()
    crates = sorted(path.parent for path in ROOT.glob("crates/*/src"))
    if arguments.crates:
        crates = [crate for crate in crates if crate.name in arguments.crates]
    count = 0
    for crate in crates:
        source = crate / "src"
        arrows = arrows_of(modules_of(source))
        name = lambda file: str(file.relative_to(source))
        if arguments.arrows:
            for (a, b), names in sorted(arrows.items()):
                print(f"{crate.name}: {name(a)} -> {name(b)}: {', '.join(sorted(names))}")
        for circle in circles_of(arrows):
            count += 1
            print(f"{crate.name}: a circle of {len(circle)} files")
            for (a, b), names in sorted(arrows.items()):
                if a in circle and b in circle:
                    print(f"    {name(a)} -> {name(b)}: {', '.join(sorted(names))}")
    print(f"{count} circles of files" if count != 1 else "1 circle of files")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
