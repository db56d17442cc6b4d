//! Reading weights on a GPU: for every row of [`FORMATS`](super::FORMATS) the functions in WGSL that unpack a stretch of a
//! row, a *part*, and multiply it by activations.
//!
//! [`WeightLoads::declare`] adds, for a binding called `w`, the binding and
//!
//! - `part_w(i, end) -> array<vec4<f32>, N>`: elements `i .. i + 4 N`, those from `end` on zero;
//! - `dot_w(i, end, x, sums) -> f32`: their product with `x: array<vec4<f32>, N>`; `sums` are the sums of the first and the
//!   last 16 elements of `x` (read only where [`WeightLoads::reads_sums`]);
//! - `element_w(i) -> f32`: one element, of any number.
//!
//! `i` counts elements from the binding's start and is a multiple of [`WeightLoads::part`], `4 N`, but for dense weights that
//! are not *wide*, where it is any number. Blocks lie at any even byte, those of an odd number of bytes at any: the aligned words
//! that span one are loaded once and shifted.
//!
//! This file knows how blocks are laid out (the GGML formats of GGUF). It must not know what is computed with them.

use std::fmt::Write as _;

use tl_device::DType;
use tl_kernels::WeightKernels;

use crate::gpu::Wgsl;

/// How a program reads a weight of one data type.
#[derive(Clone, Copy)]
pub(crate) struct WeightLoads {
    dtype: DType,
    kind: Loads,
}

#[derive(Clone, Copy)]
enum Loads {
    /// One element after the other: dense, at any alignment.
    Each,
    /// Four words at once: dense, every row at a multiple of eight elements.
    Wide,
    Blocks(&'static Blocks),
}

/// How the blocks of a format are unpacked. Element `e` of a group of 32 is `(v[e] - offset) · scale[e / 16] + low[e / 16]`.
struct Blocks {
    /// The format's row.
    kernels: &'static WeightKernels,
    /// What `v` is larger by than what is meant.
    offset: u32,
    /// Sets `v`, `scale` and `low`, in formats of several groups for group `g`.
    unpack: fn(Word, Eight) -> String,
}

/// The text of the word that begins at a half-word of the block, for blocks of an odd number of bytes an even one.
type Word<'a> = &'a dyn Fn(&str) -> String;
/// The text that loads eight words from a half-word of the block on, by the name that they get and the half-word.
type Eight<'a> = &'a dyn Fn(&str, &str) -> String;

static BLOCKS: &[Blocks] = &[
    Blocks {
        kernels: &tl_kernels::Q4_0,
        offset: 8,
        unpack: |word, _| format!("scale = vec2<f32>(half({}));{}", word("0"), halves(word, 1, None)),
    },
    Blocks {
        kernels: &tl_kernels::Q4_1,
        offset: 0,
        unpack: |word, _| format!("{}{}", scale_and_low(word), halves(word, 2, None)),
    },
    Blocks {
        kernels: &tl_kernels::Q5_0,
        offset: 16,
        unpack: |word, _| format!("scale = vec2<f32>(half({}));{}", word("0"), halves(word, 3, Some("1"))),
    },
    Blocks {
        kernels: &tl_kernels::Q5_1,
        offset: 0,
        unpack: |word, _| format!("{}{}", scale_and_low(word), halves(word, 4, Some("2"))),
    },
    Blocks {
        kernels: &tl_kernels::Q8_0,
        offset: 0,
        unpack: |word, _| {
            let values = each_of_eight(|j| format!("vec4<f32>(unpack4xI8({}))", word(&(1 + 2 * j).to_string())));
            format!("scale = vec2<f32>(half({}));{values}", word("0"))
        },
    },
    // IQ4_NL: halves are numbers of levels.
    Blocks {
        kernels: &tl_kernels::IQ4_NL,
        offset: 0,
        unpack: |word, _| {
            let values = halves(word, 1, None).replace("bytes(", "levels(");
            format!("scale = vec2<f32>(half({}));{values}", word("0"))
        },
    },
    // MXFP4: an exponent, then halves that are numbers of levels, from an odd byte on.
    Blocks {
        kernels: &tl_kernels::MXFP4,
        offset: 0,
        unpack: |word, _| {
            let shifted = |j: u32| {
                format!("({} >> 8u) | ({} << 24u)", word(&(2 * j).to_string()), word(&(2 * j + 2).to_string()))
            };
            let words: String = (0..4).map(|j| format!("\n    let word{j} = {};", shifted(j))).collect();
            let values = values_of_halves(None).replace("bytes(", "small_floats(");
            format!("scale = vec2<f32>(power({} & 255u));{words}{values}", word("0"))
        },
    },
    // Q2_K: sixteen bytes with scale and minimum of 4 bits, 64 bytes of pairs of bits, the scales of scales and of minima.
    Blocks {
        kernels: &tl_kernels::Q2_K,
        offset: 0,
        unpack: |word, eight| {
            let values = each_of_eight(|j| format!("bytes((low{j} >> shift) & 0x03030303u)"));
            format!(
                "let both = unpack2x16float(DATA[(start >> 1u) + 20u]);
    let fours = vec2<u32>({}) >> vec2<u32>(0u, 8u);
    scale = both.x * vec2<f32>(fours & vec2<u32>(15u));
    low = -both.y * vec2<f32>((fours >> vec2<u32>(4u)) & vec2<u32>(15u));
    let shift = (g & 3u) * 2u;
{}{values}",
                word("g"),
                eight("low", "8u + (g >> 2u) * 16u")
            )
        },
    },
    // Q3_K: 32 bytes of third bits, of which bit `g` is that of group `g`, 64 bytes of pairs of bits, 16 scales of 6 bits: the
    // lower four of `i` and `i + 8` in byte `i`, the upper two of every fourth in one of four more; the scale of scales.
    Blocks {
        kernels: &tl_kernels::Q3_K,
        offset: 4,
        unpack: |word, eight| {
            let value = |j| format!("bytes(((low{j} >> shift) & 0x03030303u) | (((top{j} >> g) & 0x01010101u) << 2u))");
            format!(
                "let lower = ({} >> ((g >> 2u) * 4u)) & 0x0f0fu;
    let upper = ({} >> ((g >> 1u) * 2u)) & 0x0303u;
    let six = (vec2<u32>(lower | (upper << 4u)) >> vec2<u32>(0u, 8u)) & vec2<u32>(255u);
    scale = half({}) * (vec2<f32>(six) - vec2<f32>(32.0));
    let shift = (g & 3u) * 2u;
{}{}{}",
                word("48u + (g & 3u)"),
                word("52u + (g & 1u)"),
                word("54u"),
                eight("low", "16u + (g >> 2u) * 16u"),
                eight("top", "0u"),
                each_of_eight(value)
            )
        },
    },
    // Q4_K: scale, minimum, twelve bytes of scales and minima of 6 bits, then for two groups at a time 32 bytes of halves.
    Blocks {
        kernels: &tl_kernels::Q4_K,
        offset: 0,
        unpack: |_, eight| {
            let values = each_of_eight(|j| format!("bytes((low{j} >> shift) & 0x0f0f0f0fu)"));
            let words = eight("low", "8u + (g >> 1u) * 16u");
            format!("{SCALES_OF_SIX_BITS}    let shift = (g & 1u) * 4u;\n{words}{values}")
        },
    },
    // Q5_K: as Q4_K, with 32 bytes of fifth bits before the halves, of which bit `g` is that of group `g`.
    Blocks {
        kernels: &tl_kernels::Q5_K,
        offset: 0,
        unpack: |_, eight| {
            let value = |j| format!("bytes(((low{j} >> shift) & 0x0f0f0f0fu) | (((top{j} >> g) & 0x01010101u) << 4u))");
            let (low, top) = (eight("low", "24u + (g >> 1u) * 16u"), eight("top", "8u"));
            format!("{SCALES_OF_SIX_BITS}    let shift = (g & 1u) * 4u;\n{low}{top}{}", each_of_eight(value))
        },
    },
    // Q6_K: 128 bytes of low halves, 64 bytes of upper pairs of bits, 16 signed scales, the scale of scales.
    Blocks {
        kernels: &tl_kernels::Q6_K,
        offset: 32,
        unpack: |word, eight| {
            let value =
                |j| format!("bytes(((low{j} >> shift) & 0x0f0f0f0fu) | (((top{j} >> top_shift) & 0x03030303u) << 4u))");
            let low = eight("low", "(g >> 2u) * 32u + (g & 1u) * 16u");
            let top = eight("top", "64u + (g >> 2u) * 16u");
            format!(
                "scale = half({}) * vec2<f32>(unpack4xI8({}).xy);
    let shift = (g & 2u) * 2u;
    let top_shift = (g & 3u) * 2u;
{low}{top}{}",
                word("104u"),
                word("96u + g"),
                each_of_eight(value)
            )
        },
    },
    // IQ4_XS: a scale, two upper bits and four lower ones of eight scales, halves that are numbers of levels.
    Blocks {
        kernels: &tl_kernels::IQ4_XS,
        offset: 0,
        unpack: |_, _| {
            let word = |j: u32| format!("\n    let word{j} = DATA[(start >> 1u) + 2u + g * 4u + {j}u];");
            let words: String = (0..4).map(word).collect();
            let values = values_of_halves(None).replace("bytes(", "levels(");
            format!(
                "let first = DATA[start >> 1u];
    let lower = (DATA[(start >> 1u) + 1u] >> (g * 4u)) & 15u;
    let six = lower | (((first >> (16u + g * 2u)) & 3u) << 4u);
    scale = vec2<f32>(half(first) * (f32(six) - 32.0));{words}{values}"
            )
        },
    },
];

/// Eight statements that set the elements of a group, four at a time.
fn each_of_eight(value: impl Fn(u32) -> String) -> String {
    (0..8).map(|j| format!("\n    v[{j}] = {};", value(j))).collect()
}

/// 32 elements in 16 bytes from a half-word on: the low half of byte `j` is element `j`, the high half element `16 + j`. Where
/// there are fifth bits, they are bits of the word at another half-word.
fn halves(word: Word, from: u32, fifth: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(at) = fifth {
        let _ = write!(text, "\n    let fifth = {};", word(at));
    }
    for j in 0..4 {
        let _ = write!(text, "\n    let word{j} = {};", word(&(from + 2 * j).to_string()));
    }
    text + &values_of_halves(fifth)
}

/// The elements in the halves of four words.
fn values_of_halves(fifth: Option<&str>) -> String {
    let value = |j: u32| {
        let (word, shift) = (j % 4, j / 4 * 4);
        let fifth = fifth.map_or(String::new(), |_| format!(" | fifths(fifth >> {}u)", 4 * j));
        format!("bytes(((word{word} >> {shift}u) & 0x0f0f0f0fu){fifth})")
    };
    each_of_eight(value)
}

/// Scale and minimum as two `float16`.
fn scale_and_low(word: Word) -> String {
    format!("let both = unpack2x16float({});\n    scale = both.xx;\n    low = both.yy;", word("0"))
}

/// Scale and minimum of group `g`, each of 6 bits: of the first four groups in the first eight bytes, of the others four
/// bits in the last four bytes and two above those of the first.
const SCALES_OF_SIX_BITS: &str = "let both = unpack2x16float(DATA[start >> 1u]);
    let place = (g & 3u) * 8u;
    let first = DATA[(start >> 1u) + 1u] >> place;
    let second = DATA[(start >> 1u) + 2u] >> place;
    let third = DATA[(start >> 1u) + 3u] >> place;
    let early = vec2<u32>(first & 63u, second & 63u);
    let late = vec2<u32>((third & 15u) | ((first >> 2u) & 0x30u), ((third >> 4u) & 15u) | ((second >> 2u) & 0x30u));
    let six = vec2<f32>(select(early, late, g >= 4u));
    scale = vec2<f32>(both.x * six.x);
    low = vec2<f32>(-both.y * six.y);
";

/// What the unpacking of all formats uses. The sixteen levels of IQ4_NL stand as signed bytes in four words, twice the eight
/// sizes of MXFP4 as half bytes in one.
const SHARED: &str = "
fn half(word: u32) -> f32 { return unpack2x16float(word).x; }
fn bytes(word: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(word)); }
fn level(number: u32) -> f32 {
    let low = select(0xbfad9881u, 0xf6eaddcfu, (number & 4u) != 0u);
    let high = select(0x26190d01u, 0x71594535u, (number & 4u) != 0u);
    return f32(extractBits(bitcast<i32>(select(low, high, (number & 8u) != 0u)), (number & 3u) * 8u, 8u));
}
fn levels(word: u32) -> vec4<f32> {
    let four = unpack4xU8(word);
    return vec4<f32>(level(four.x), level(four.y), level(four.z), level(four.w));
}
fn small_float(number: u32) -> f32 {
    let size = f32((0xc8643210u >> ((number & 7u) * 4u)) & 15u);
    return select(size, -size, (number & 8u) != 0u);
}
fn small_floats(word: u32) -> vec4<f32> {
    let four = unpack4xU8(word);
    return vec4<f32>(small_float(four.x), small_float(four.y), small_float(four.z), small_float(four.w));
}
fn power(exponent: u32) -> f32 {
    return bitcast<f32>(select((exponent - 1u) << 23u, 0x00200000u << (exponent & 1u), exponent < 2u));
}
fn word_at(word: u32, next: u32, half: u32) -> u32 { return select(word, (word >> 16u) | (next << 16u), (half & 1u) == 1u); }
fn fifths(bits: u32) -> u32 { return ((bits & 1u) << 4u) | ((bits & 2u) << 11u) | ((bits & 4u) << 18u) | ((bits & 8u) << 25u); }
";

impl WeightLoads {
    /// Loads for a weight of this type. `is_wide`: every row begins at a multiple of eight elements from the binding's start
    /// and has a multiple of eight. `None` for types that are not weights', and for formats without functions.
    pub(crate) fn new(dtype: DType, is_wide: bool) -> Option<WeightLoads> {
        let kind = match dtype {
            DType::F32 | DType::F16 => None,
            DType::Block(format) if format.block_elems == 1 => None,
            DType::Block(format) => Some(Loads::Blocks(BLOCKS.iter().find(|blocks| blocks.kernels.blocks == *format)?)),
            DType::I32 | DType::Bool => return None,
        };
        Some(WeightLoads { dtype, kind: kind.unwrap_or(if is_wide { Loads::Wide } else { Loads::Each }) })
    }

    /// Elements of a part: 32, 8 or 4.
    pub(crate) fn part(&self) -> u32 {
        match self.kind {
            Loads::Each => 4,
            Loads::Wide => 8,
            Loads::Blocks(_) => 32,
        }
    }

    /// Whether `dot` reads the sums of `x`.
    pub(crate) fn reads_sums(&self) -> bool {
        matches!(self.kind, Loads::Blocks(blocks) if blocks.kernels.has_minima() || blocks.offset > 0)
    }

    /// Adds the binding and the functions. A program declares one weight of a kind under a name of its own.
    pub(crate) fn declare<'a>(&self, wgsl: Wgsl<'a>, name: &str) -> Wgsl<'a> {
        match self.kind {
            Loads::Each => wgsl.read(name, self.dtype).text(&each(name)),
            Loads::Wide => {
                let stored = if self.dtype == DType::F32 { "vec4<f32>" } else { "vec4<u32>" };
                wgsl.read_as(name, stored).text(&wide(self.dtype, name))
            }
            Loads::Blocks(blocks) => wgsl.read_words(name).text(&blocks.functions(name)),
        }
    }

    /// The functions that the functions of several weights share; once in a program, before the first weight.
    pub(crate) fn shared() -> &'static str {
        SHARED
    }
}

/// Dense elements one by one.
fn each(name: &str) -> String {
    format!(
        "fn element_{name}(i: u32) -> f32 {{ return load_{name}(i); }}
fn part_{name}(i: u32, end: u32) -> array<vec4<f32>, 1> {{
    var v = vec4<f32>();
    for (var k = 0u; k < 4u; k++) {{ if i + k < end {{ v[k] = load_{name}(i + k); }} }}
    return array<vec4<f32>, 1>(v);
}}
fn dot_{name}(i: u32, end: u32, x: array<vec4<f32>, 1>, sums: vec2<f32>) -> f32 {{ return dot(part_{name}(i, end)[0], x[0]); }}"
    )
}

/// Dense elements, eight at a time.
fn wide(dtype: DType, name: &str) -> String {
    let (load, first, second, element) = match dtype {
        DType::F32 => (
            format!("let a = {name}_data[i >> 2u]; let b = {name}_data[(i >> 2u) + 1u];"),
            "a",
            "b",
            format!("{name}_data[i >> 2u][i & 3u]"),
        ),
        DType::F16 => (
            format!("let a = {name}_data[i >> 3u];"),
            "vec4<f32>(unpack2x16float(a.x), unpack2x16float(a.y))",
            "vec4<f32>(unpack2x16float(a.z), unpack2x16float(a.w))",
            format!("unpack2x16float({name}_data[i >> 3u][(i >> 1u) & 3u])[i & 1u]"),
        ),
        _ => (
            format!(
                "let a = {name}_data[i >> 3u]; let low = a << vec4<u32>(16u); let high = a & vec4<u32>(0xffff0000u);"
            ),
            "bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y))",
            "bitcast<vec4<f32>>(vec4<u32>(low.z, high.z, low.w, high.w))",
            format!("bitcast<f32>(({name}_data[i >> 3u][(i >> 1u) & 3u] >> ((i & 1u) * 16u)) << 16u)"),
        ),
    };
    format!(
        "fn element_{name}(i: u32) -> f32 {{ return {element}; }}
fn part_{name}(i: u32, end: u32) -> array<vec4<f32>, 2> {{
    {load}
    return array<vec4<f32>, 2>({first}, {second});
}}
fn dot_{name}(i: u32, end: u32, x: array<vec4<f32>, 2>, sums: vec2<f32>) -> f32 {{
    let v = part_{name}(i, end);
    return dot(v[0], x[0]) + dot(v[1], x[1]);
}}"
    )
}

impl Blocks {
    /// Bytes of a block.
    fn bytes(&self) -> u32 {
        self.kernels.blocks.block_bytes as u32
    }

    /// Groups of 32 elements in a block.
    fn groups(&self) -> u32 {
        self.kernels.blocks.block_elems as u32 / 32
    }

    fn functions(&self, name: &str) -> String {
        let offset = self.offset;
        // What `start` counts: half-words, or bytes where blocks have an odd number of them.
        let (units, unit) = if self.is_odd() { (self.bytes(), "byte") } else { (self.bytes() / 2, "half-word") };
        let mut text = format!(
            "struct Group_{name} {{ v: array<vec4<f32>, 8>, scale: vec2<f32>, low: vec2<f32> }}
fn group_{name}(i: u32) -> Group_{name} {{
    var v: array<vec4<f32>, 8>;
    var scale: vec2<f32>;
    var low = vec2<f32>();
    let number = i / 32u;\n"
        );
        if self.groups() == 1 {
            let _ = writeln!(text, "    let start = number * {units}u; // {unit}");
        } else {
            let groups = self.groups();
            let _ = writeln!(
                text,
                "    let g = number % {groups}u;\n    let start = number / {groups}u * {units}u; // {unit}"
            );
        }
        let data = format!("{name}_data");
        text.push_str(&self.loads(&data));
        text.push_str("    ");
        text.push_str(
            &(self.unpack)(&|at| self.word(&data, at), &|words, at| self.eight(&data, words, at))
                .replace("DATA", &data),
        );
        let _ = write!(
            text,
            "
    return Group_{name}(v, scale, low);
}}
fn part_{name}(i: u32, end: u32) -> array<vec4<f32>, 8> {{
    let a = group_{name}(i);
    return array<vec4<f32>, 8>({parts});
}}
fn element_{name}(i: u32) -> f32 {{
    var v = part_{name}(i & ~31u, i + 1u);
    return v[(i >> 2u) & 7u][i & 3u];
}}
fn dot_{name}(i: u32, end: u32, x: array<vec4<f32>, 8>, sums: vec2<f32>) -> f32 {{
    let a = group_{name}(i);
    let first = dot(a.v[0], x[0]) + dot(a.v[1], x[1]) + dot(a.v[2], x[2]) + dot(a.v[3], x[3]);
    let second = dot(a.v[4], x[4]) + dot(a.v[5], x[5]) + dot(a.v[6], x[6]) + dot(a.v[7], x[7]);
    return dot(a.scale, vec2<f32>(first, second)){minima};
}}",
            parts = self.parts(),
            minima = match (self.kernels.has_minima(), offset) {
                (true, _) => " + dot(a.low, sums)".to_owned(),
                (false, 0) => String::new(),
                (false, offset) => format!(" - {offset}.0 * dot(a.scale, sums)"),
            },
        );
        text
    }

    /// The eight quarters of four elements of a part.
    fn parts(&self) -> String {
        let part = |j: u32| {
            let half = if j < 4 { "x" } else { "y" };
            let value = if self.offset > 0 { format!("(a.v[{j}] - {}.0)", self.offset) } else { format!("a.v[{j}]") };
            let low = if self.kernels.has_minima() { format!(" + a.low.{half}") } else { String::new() };
            format!("{value} * a.scale.{half}{low}")
        };
        (0..8).map(part).collect::<Vec<_>>().join(",\n        ")
    }

    /// Whether every block begins at a whole word.
    fn is_aligned(&self) -> bool {
        self.bytes().is_multiple_of(4)
    }

    /// Whether blocks begin at any byte.
    fn is_odd(&self) -> bool {
        !self.bytes().is_multiple_of(2)
    }

    /// The words that span a block of one group, each loaded once; of blocks at any byte, their own words.
    fn loads(&self, data: &str) -> String {
        let mut text = String::new();
        if self.is_odd() {
            let n_words = (self.bytes() + 3).div_ceil(4);
            for word in 0..n_words {
                let _ = writeln!(text, "    let raw{word} = {data}[(start >> 2u) + {word}u];");
            }
            text.push_str("    let bits = (start & 3u) * 8u;\n");
            for word in 0..n_words {
                // No shift by 32 bits: that would be one by none.
                let next = if word + 1 < n_words {
                    format!("((raw{} << 1u) << (31u - bits))", word + 1)
                } else {
                    "0u".to_owned()
                };
                let _ = writeln!(text, "    let w{word} = (raw{word} >> bits) | {next};");
            }
            return text;
        }
        if !self.is_aligned() {
            text.push_str("    let is_odd = (start & 1u) == 1u;\n");
        }
        if self.groups() == 1 {
            let n_words = (self.bytes() / 2 + u32::from(!self.is_aligned())).div_ceil(2);
            for word in 0..n_words {
                let _ = writeln!(text, "    let w{word} = {data}[(start >> 1u) + {word}u];");
            }
        }
        text
    }

    /// The word that begins at a half-word of the block: a number in formats of one group, else anything.
    fn word(&self, data: &str, at: &str) -> String {
        match at.parse::<u32>() {
            Ok(at) if self.is_aligned() || self.is_odd() => format!("w{}", at / 2),
            Ok(at) => {
                let (word, next) = (at / 2, at / 2 + 1);
                let joined = format!("((w{word} >> 16u) | (w{next} << 16u))");
                if at % 2 == 0 {
                    format!("select(w{word}, {joined}, is_odd)")
                } else {
                    format!("select({joined}, w{next}, is_odd)")
                }
            }
            Err(_) => {
                format!("word_at({data}[(start + {at}) >> 1u], {data}[((start + {at}) >> 1u) + 1u], start + {at})")
            }
        }
    }

    /// Eight words from a half-word of the block on, as `NAME0 .. NAME7`. The half-word's number is even.
    fn eight(&self, data: &str, name: &str, at: &str) -> String {
        let mut text = format!("    let {name}_at = (start + {at}) >> 1u;\n");
        let n_words = if self.is_aligned() { 8 } else { 9 };
        let raw = if self.is_aligned() { "" } else { "_raw" };
        for j in 0..n_words {
            let _ = writeln!(text, "    let {name}{raw}{j} = {data}[{name}_at + {j}u];");
        }
        for j in 0..n_words - 1 {
            if !self.is_aligned() {
                let (this, next) = (format!("{name}_raw{j}"), format!("{name}_raw{}", j + 1));
                let _ =
                    writeln!(text, "    let {name}{j} = select({this}, ({this} >> 16u) | ({next} << 16u), is_odd);");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::FORMATS;

    #[test]
    fn every_format_is_read() {
        for format in FORMATS {
            let loads = WeightLoads::new(format.dtype, true);
            let loads = loads.unwrap_or_else(|| panic!("{} has no functions on a GPU", format.dtype));
            assert!(matches!(loads.kind, Loads::Blocks(_)) || format.dtype.block_elems() == 1, "{}", format.dtype);
        }
    }
}
