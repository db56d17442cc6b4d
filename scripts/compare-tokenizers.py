"""Compares the project's tokenizers with others on mixed text.

    python scripts/compare-tokenizers.py FOLDER [--bytes N] [--only WORD]

Every `tokenizer.json` below FOLDER is judged by the package `tokenizers`; every GGUF file with a tokenizer by a
tokenizer of that package (byte-level BPE), or of `sentencepiece`, that is made of the file's vocabulary; and where
`X.gguf.inp` and `X.gguf.out` lie beside `X.gguf`, by these cases too. The text is made here: code and prose found on
this machine, words drawn from the vocabularies, scripts of the whole world, emoji, control characters, runs of all
kinds. Needs `pip install tokenizers sentencepiece protobuf gguf`, and
`cargo build --release -p tl-model --no-default-features --example tokenize`.

No vocabulary comes with the project. Where to find some: llama.cpp's `models/ggml-vocab-*.gguf`, any model's folder.
"""

import argparse
import array
import os
import pathlib
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("TL_TOKENIZE", ROOT / "target/release/examples/tokenize")
SPLIT = 0xFFFFFFFF

# Later characters are in one table of Unicode's and not in another.
BLOCKS = [
    (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x400, 0x500), (0x531, 0x557), (0x5D0, 0x5EB), (0x620, 0x6D4),
    (0x904, 0x93A), (0x93E, 0x950), (0x985, 0x9B9), (0xE01, 0xE3A), (0xE40, 0xE4F), (0x10D0, 0x10FB), (0x1100, 0x1200),
    (0x1E00, 0x1F00), (0x2000, 0x2070), (0x20A0, 0x20B0), (0x2150, 0x2180), (0x2190, 0x2300), (0x2460, 0x2500),
    (0x3000, 0x3100), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4), (0xFE00, 0xFE10), (0xFF01, 0xFF5F), (0x1F300, 0x1F650),
    (0x1D400, 0x1D455), (0x20000, 0x20100), (0xE000, 0xE010), (0x300, 0x36F),
]


def characters(rng, count):
    low, high = rng.choice(BLOCKS)
    return "".join(chr(rng.randrange(low, high)) for _ in range(count))


def files():
    folders = [sysconfig.get_paths()["stdlib"], ROOT / "crates", ROOT / "docs", "/usr/share/doc", "/usr/share/perl"]
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix in (".py", ".rs", ".md", ".txt", ".pl", ".pm", ".wgsl", ".h", "") and path.is_file():
                try:
                    yield path.read_text(encoding="utf-8").replace("\0", "")
                except (UnicodeDecodeError, OSError):
                    continue


def corpus(n_bytes, words, seed=1):
    """Parts of mixed text, together about `n_bytes` long."""
    rng = random.Random(seed)
    parts, size = [], 0
    sources = files()
    odd = ["\r\n", "\n\n\n", "\t", " ", "  ", "\u00a0", "\u3000", "\u2028", "\x07", "\x1b[0m", "\x7f", "\u200d", "\ufeff",
           "'s", "'LL", "'\u017f", "don't", "WE'RE", "!!!", "/*", "//", "\\n", "<|im_end|>", "<s>", "</s>", "<|", "▁", "Ġ",
           "🦀", "👩‍👩‍👧", "é", "e\u0301", "ﬁ", "İ", "ß", "ſ", "½", "٣", "x²", "1234567", "3.14", "漢字", "かな"]
    while size < n_bytes:
        kind = rng.randrange(6)
        if kind < 2:
            text = next(sources, None)
            if text is None:
                sources = files()
                continue
            start = rng.randrange(max(1, len(text) - 20000))
            part = text[start:start + 20000]
        elif kind == 2 and words:
            part = "".join(rng.choice(words) for _ in range(rng.randrange(1, 600)))
        elif kind == 3:
            part = "".join(characters(rng, rng.randrange(1, 12)) + rng.choice(["", " ", "\n"]) for _ in range(300))
        elif kind == 4:
            part = "".join(rng.choice(odd) for _ in range(rng.randrange(1, 500)))
        else:
            run = rng.choice([" ", "\n", "a", "A", "1", "=", "\t", "é", "漢", "🦀", "\r\n", " \n", "ab", "\u0301", "'"])
            part = rng.choice(["", "x", " "]) + run * rng.randrange(1, 1500) + rng.choice(["", "y", " z"])
        part = part.replace("\0", "")
        parts.append(part)
        size += len(part.encode("utf-8", "surrogatepass"))
    return [part for part in parts if not any(0xD800 <= ord(c) < 0xE000 for c in part)]


def ours(vocabulary, parts, *options):
    with tempfile.TemporaryDirectory() as folder:
        text, out = pathlib.Path(folder, "text"), pathlib.Path(folder, "ids")
        text.write_text("\0".join(parts), encoding="utf-8", newline="")
        run = subprocess.run([PROGRAM, *options, vocabulary, text, out], capture_output=True, text=True)
        if run.returncode:
            return None, run.stderr.strip()
        ids = array.array("I", out.read_bytes()).tolist()
    lists, start = [], 0
    for _ in parts:
        end = ids.index(SPLIT, start)
        lists.append(ids[start:end])
        start = end + 1
    return lists, run.stdout.strip().splitlines()


def read_gguf(path):
    import gguf

    reader = gguf.GGUFReader(path)
    def value(key):
        field = reader.fields.get(key if "." in key else "tokenizer.ggml." + key)
        return None if field is None else field.contents()
    return value


def letters():
    """The letter of every byte in a byte-level vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


def expressions(pre):
    """The expressions of a pre-tokenizer, read from the project's table."""
    source = (ROOT / "crates/tl-model/src/tokenizer/split.rs").read_text(encoding="utf-8")
    constants = {}
    for name, body in re.findall(r"const (\w+): &str =\s*(.*?);\n", source, re.S):
        pieces = re.findall(r'r(#*)"(.*?)"\1(?=[,;\s)]|$)', body, re.S) or [("", body.strip().strip('"'))]
        constants[name] = "".join(piece for _, piece in pieces)
    for names, items, merges, _ in re.findall(r"row\(&\[(.*?)\], &\[(.*?)\], (\w+), (\w+)\),", source):
        if f'"{pre}"' in names:
            found = re.findall(r'r?"((?:[^"\\]|\\.)*)"|(\w+)', items)
            texts = [constants[name] if name else text.replace("\\r", "\r").replace("\\n", "\n") for text, name in found]
            return [re.sub(r"\\u\{([0-9A-F]+)\}", lambda m: chr(int(m[1], 16)), text) for text in texts], merges == "true"
    return None, False


def judge_of_gguf(path):
    """A function from parts to lists of ids, or why there is none."""
    value = read_gguf(path)
    kind, tokens, types = value("model"), value("tokens"), value("token_type")
    if kind == "llama":
        return judge_of_spm(tokens, value("scores"), types, value("add_space_prefix"), value("general.name"))
    if kind not in ("gpt2", "gemma4"):
        return f"a tokenizer of the kind {kind}"
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    def halves(merge):
        at = merge.index(" ", 1)
        return merge[:at], merge[at + 1:]

    merges = [halves(merge) for merge in value("merges")]
    types = types or [1] * len(tokens)
    vocab = {}
    for id, token in enumerate(tokens):
        vocab.setdefault(token, id)
    if kind == "gpt2":
        found, ignore_merges = expressions(value("pre") or "default")
        if found is None:
            return f"no expressions for {value('pre')}"
        spelled = set(letters().values())
        absent = [letter for letter in spelled if letter not in vocab]
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=ignore_merges))
        splits = [pre_tokenizers.Split(Regex(text), "isolated") for text in found]
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
        if absent:
            by_letter = {letter: byte for byte, letter in letters().items()}
            lost = [by_letter[letter] for letter in absent]
            print(f"  {len(lost)} bytes have no token: parts with them are left out")
    else:
        lost = []
        tokenizer = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    added = [AddedToken(tokens[id] if kind == "gpt2" else tokens[id].replace("▁", " "), normalized=False)
             for id, number in enumerate(types) if number == 4]
    tokenizer.add_tokens(added)
    lost = set(lost) if kind == "gpt2" and absent else set()

    def judge(parts):
        kept = [not lost.intersection(part.encode()) for part in parts]
        encoded = iter(tokenizer.encode_batch_fast([part for part, keep in zip(parts, kept) if keep],
                                                   add_special_tokens=False))
        return [next(encoded).ids if keep else None for keep in kept]

    return judge


def judge_of_spm(tokens, scores, types, prefix, name):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as schema

    model = schema.ModelProto()
    unknown = types.index(2)
    for id, (token, score, kind) in enumerate(zip(tokens, scores, types)):
        # There is one unknown token there; others are as good as control tokens, which are not read in text.
        piece = model.pieces.add()
        piece.piece, piece.score, piece.type = token, score, 3 if kind == 2 and id != unknown else kind
    spec = model.trainer_spec
    spec.model_type, spec.byte_fallback, spec.vocab_size = spec.BPE, 6 in types, len(tokens)
    spec.unk_id, spec.unk_piece = unknown, tokens[unknown]
    spec.bos_id, spec.eos_id, spec.pad_id = -1, -1, -1
    normal = model.normalizer_spec
    normal.name, normal.add_dummy_prefix, normal.remove_extra_whitespaces = "identity", prefix is not False, False
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    # As llama.cpp does it, the text behind a user-defined token begins anew, with a space in front; some models' tokens
    # take the spaces behind them.
    cut = {token.replace("▁", " "): id for id, token in enumerate(tokens) if types[id] == 4}
    behind = r"\s*" if re.search("phi-?3", name or "", re.I) else ""
    longest = sorted(cut, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(map(re.escape, longest)) + ")" + behind) if cut else None

    def judge(part):
        pieces = pattern.split(part) if pattern else [part]
        return [id for piece in pieces if piece for id in ([cut[piece]] if piece in cut else processor.encode(piece))]

    return lambda parts: [judge(part) for part in parts]


def judge_of_json(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    def judge(parts):
        return [encoded.ids for encoded in tokenizer.encode_batch_fast(parts, add_special_tokens=False)]
    def judge_special(parts):
        tokenizer.encode_special_tokens = False
        return judge(parts)
    return judge, judge_special


def vocabulary_words(path):
    if path.suffix == ".json":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        words = [tokenizer.decode([id]) for id in range(0, tokenizer.get_vocab_size(), 7)]
    else:
        tokens = read_gguf(path)("tokens") or []
        words = [token.replace("▁", " ") for token in tokens[::7]]
    return [word for word in words if "\ufffd" not in word]


def compare(name, parts, got, expected):
    wrong = [i for i, ids in enumerate(expected) if ids is not None and got[i] != ids]
    print(f"  {name}: {len(parts)} parts, {sum(len(part.encode()) for part in parts)} bytes, {len(wrong)} differ")
    for i in wrong[:3]:
        at = next((k for k, pair in enumerate(zip(got[i], expected[i])) if pair[0] != pair[1]), 0)
        print(f"    from token {at} of {parts[i][:60]!r}: {got[i][at:at + 8]} is not {expected[i][at:at + 8]}")
    return len(wrong)


def cases(path):
    texts = path.with_name(path.name + ".inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = path.with_name(path.name + ".out").read_text().split("\n")
    return texts[:-1], [[int(id) for id in line.split()] for line in lines][: len(texts) - 1]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--bytes", type=int, default=10_000_000)
    arguments.add_argument("--only", default="")
    arguments = arguments.parse_args()
    paths = sorted([*arguments.folder.rglob("tokenizer.json"), *arguments.folder.rglob("*.gguf")])
    paths = [path for path in paths if arguments.only in str(path)]
    wrong = 0
    for path in paths:
        print(path)
        words = vocabulary_words(path)
        parts = corpus(arguments.bytes, words)
        got, said = ours(path, parts)
        if got is None:
            print(f"  not read: {said}")
            continue
        print("  " + "\n  ".join(said))
        if path.suffix == ".json":
            judge, special = judge_of_json(path)
            wrong += compare("text", parts, got, judge(parts))
            some = parts[: len(parts) // 10]
            wrong += compare("special", some, ours(path, some, "--special")[0], special(some))
            continue
        if path.with_name(path.name + ".inp").exists():
            texts, ids = cases(path)
            wrong += compare("cases", texts, ours(path, texts)[0], ids)
        judge = judge_of_gguf(path)
        if isinstance(judge, str):
            print(f"  no judge: {judge}")
        else:
            wrong += compare("text", parts, got, judge(parts))
    print(f"unicode {unicodedata.unidata_version}: {len(paths)} vocabularies, {wrong} parts differ")
    sys.exit(1 if wrong or not paths else 0)


if __name__ == "__main__":
    main()
