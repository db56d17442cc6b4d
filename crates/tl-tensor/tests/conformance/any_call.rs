//! Every operation, called at random: it never panics, and the rule, told less than the running program knows, says nothing
//! that the result contradicts and never refuses what runs.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tl_device::{DType, Device};
use tl_tensor::ops::{self, Arg, ArgType, Kind, Op, RuleArgs, Size, Sizes, Symbol, TensorType};
use tl_tensor::quant::FORMATS;
use tl_tensor::{Error, OpError, Tensor};

use crate::values::{Input, arrangements, random, weight};

const SPECS: [&str; 16] = [
    "ij,jk->ik",
    "ij->ji",
    "i,i->",
    "ij,ij->ij",
    "ii->i",
    "ijk,jk->i",
    "ij,j->",
    "i,j->ij",
    "->",
    "ab,cb->a c",
    "ij,jk",
    "...i,...i->...",
    "...,...",
    "ij,ij,ij->i",
    "...i,...i,...i",
    "i,ij,jk,j->k",
];

/// Numbers that decide everything about a call.
#[derive(Clone, Debug)]
struct Choices {
    dims: [usize; 5],
    dtype: usize,
    /// One for each argument, taken apart by what the parameter takes.
    picks: Vec<u32>,
    /// Which facts the rule is told.
    hidden: u64,
}

fn choices() -> impl Strategy<Value = Choices> {
    let dims = prop::array::uniform5(prop_oneof![1 => Just(0usize), 8 => 1..5usize, 1 => Just(32usize)]);
    (dims, 0..4usize, prop::collection::vec(any::<u32>(), 8), any::<u64>())
        .prop_map(|(dims, dtype, picks, hidden)| Choices { dims, dtype, picks, hidden })
}

/// An argument that owns what it refers to.
enum Own {
    None,
    Tensor(Tensor),
    Tensors(Vec<Tensor>),
    Number(f64),
    Int(i64),
    Ints(Vec<i64>),
    Bool(bool),
    Text(&'static str),
    DType(DType),
}

impl Own {
    fn arg(&self) -> Arg<'_> {
        match self {
            Own::None => Arg::None,
            Own::Tensor(tensor) => Arg::from(tensor),
            Own::Tensors(tensors) => Arg::Tensors(tensors),
            Own::Number(x) => Arg::Number(*x),
            Own::Int(n) => Arg::Int(*n),
            Own::Ints(ints) => Arg::Ints(ints),
            Own::Bool(value) => Arg::Bool(*value),
            Own::Text(text) => Arg::Text(text),
            Own::DType(dtype) => Arg::DType(*dtype),
        }
    }
}

/// Shapes that have to do with each other, so that many calls fit: of one rank after the other from the same sizes, some of
/// them transposed, some with a 1 to broadcast.
fn shape(choices: &Choices, pick: u32) -> Vec<usize> {
    let rank = match pick % 8 {
        0 => (pick / 8 % 5) as usize,
        _ => 1 + (choices.hidden % 3) as usize,
    };
    let mut dims = choices.dims[..rank].to_vec();
    match pick / 64 % 12 {
        0 if rank > 0 => dims[(pick / 512) as usize % rank] = 1,
        1 | 2 if rank > 1 => dims.swap(rank - 1, rank - 2),
        3 if rank > 0 => drop(dims.remove(0)),
        4 if rank > 0 => dims[rank - 1] = choices.dims[4],
        _ => {}
    }
    dims
}

/// Shapes that fit an operation whose operands have different ranks, for most calls of it.
fn fitting(op: &Op, param: &str, choices: &Choices, pick: u32) -> Option<Vec<usize>> {
    let [a, b, c, d, e] = choices.dims;
    let first = || shape(choices, choices.picks[0] / 5);
    let dims = match (op.name, param) {
        ("linear_experts", "x") if choices.hidden.is_multiple_of(2) => vec![a, b, c],
        ("linear_experts", "x") => vec![a, c],
        ("linear_experts", "w") => vec![d, e, c],
        ("linear_experts", "experts") => vec![a, b],
        ("linear_experts", "b") => vec![d, e],
        ("attention", "q") => vec![a, b, c],
        ("attention", "k") => vec![d, b, c],
        ("attention", "v") => vec![d, b, e],
        ("attention", "sinks") => vec![b],
        ("rope", "factors") => vec![first().last()? / 2],
        _ => return None,
    };
    (!pick.is_multiple_of(8)).then_some(dims)
}

fn tensor(device: &Device, choices: &Choices, pick: u32, kind: Kind) -> Tensor {
    tensor_of(device, choices, pick, kind, shape(choices, pick))
}

fn tensor_of(device: &Device, choices: &Choices, pick: u32, kind: Kind, dims: Vec<usize>) -> Tensor {
    let all = [DType::F16, DType::F32, DType::I32, DType::Bool];
    let dtype = match (kind, pick / 4096 % 12) {
        (Kind::Ids, 1..) => DType::I32,
        (_, 0) => all[(pick / 32768 % 4) as usize],
        _ => all[choices.dtype],
    };
    let format = &FORMATS[(pick / 7) as usize % FORMATS.len()];
    let fits = dims.last().is_some_and(|n| n.is_multiple_of(format.dtype.block_elems()));
    if kind == Kind::Weight && fits && pick.is_multiple_of(3) {
        let (w, _) = weight(device, format, &dims, (-1.0, 1.0));
        return if dims.len() == 2 && pick.is_multiple_of(2) { w.transpose(0, 1).unwrap() } else { w };
    }
    let mut inputs: Vec<Input> = arrangements(device, dtype, &random(dtype, &dims, (-1.0, 3.0)));
    inputs.swap_remove(pick as usize / 11 % inputs.len()).tensor
}

fn int(choices: &Choices, pick: u32) -> i64 {
    match pick % 16 {
        0 => [i64::MIN, i64::MAX, -1 << 40, 1 << 40][(pick / 16 % 4) as usize],
        1 => choices.dims[(pick / 16 % 5) as usize] as i64,
        _ => i64::from(pick / 16 % 7) - 3,
    }
}

fn argument(device: &Device, op: &Op, index: usize, choices: &Choices) -> Own {
    let param = &op.params[index];
    let pick = choices.picks[index];
    if param.default.is_some() && pick.is_multiple_of(5) {
        return Own::None;
    }
    let pick = pick / 5;
    match param.kind {
        Kind::TensorOrNumber if pick.is_multiple_of(6) => Own::Number(f64::from(pick % 100) / 8.0 - 6.0),
        Kind::TensorOrNumber if pick % 6 == 1 => Own::Int(int(choices, pick / 6)),
        Kind::Tensor if param.name == "index" => Own::Tensor(tensor(device, choices, pick, Kind::Ids)),
        Kind::Tensor | Kind::Weight | Kind::TensorOrNumber | Kind::Ids => {
            let dims = fitting(op, param.name, choices, pick / 2).unwrap_or_else(|| shape(choices, pick));
            Own::Tensor(tensor_of(device, choices, pick, param.kind, dims))
        }
        Kind::Tensors => {
            Own::Tensors((0..pick % 4).map(|i| tensor(device, choices, (pick / 4) ^ (i * 64), param.kind)).collect())
        }
        Kind::Int if param.name == "dims" && !pick.is_multiple_of(4) => {
            let last = shape(choices, choices.picks[0] / 5).last().copied().unwrap_or(4);
            Own::Int(last as i64 / 2 * 2)
        }
        Kind::Int if param.name == "window" && !pick.is_multiple_of(4) => Own::Int(i64::from(pick / 4 % 5)),
        Kind::IntOrIds if !pick.is_multiple_of(3) => {
            let n = shape(choices, choices.picks[0] / 5).first().copied().unwrap_or(1);
            Own::Tensor(tensor_of(device, choices, pick, Kind::Ids, vec![n]))
        }
        Kind::Int | Kind::IntOrIds => Own::Int(int(choices, pick)),
        Kind::Ints if op.name == "permute" => {
            let rank = 1 + (choices.hidden % 3) as i64;
            Own::Ints((0..rank).map(|i| (i + i64::from(pick)) % rank).collect())
        }
        Kind::Ints => {
            let dims = shape(choices, pick);
            let hole = (pick.is_multiple_of(4)).then_some((pick / 4) as usize % dims.len().max(1));
            Own::Ints(dims.iter().enumerate().map(|(i, &dim)| if Some(i) == hole { -1 } else { dim as i64 }).collect())
        }
        // Of several numbers, all must be good.
        Kind::Number if op.params.len() > 6 => match pick % 16 {
            0 => Own::Number(f64::NAN),
            1 => Own::Number(-1.0),
            _ => Own::Number([0.5, 2.0, 32.0, 4096.0, 10000.0, 1.5][(pick / 16 % 6) as usize]),
        },
        Kind::Number => Own::Number([0.5, 1e-5, 2.0, 10000.0, -1.0, 0.0, f64::NAN, 1e300][(pick % 8) as usize]),
        Kind::Bool => Own::Bool(pick.is_multiple_of(2)),
        Kind::Text => Own::Text(SPECS[(pick % 16) as usize]),
        Kind::DType => Own::DType([DType::F16, DType::F32, DType::I32, FORMATS[4].dtype][(pick % 4) as usize]),
    }
}

/// Hides facts from a rule, bit after bit.
struct Hide {
    state: u64,
    symbols: HashMap<i64, Size>,
}

impl Hide {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 60
    }

    /// The number as a symbol, whose name is the number.
    fn symbol(&mut self, n: i64) -> Size {
        let kind = if n < 0 { Symbol::Int } else { Symbol::Dimension };
        *self.symbols.entry(n).or_insert_with(|| Size::symbol(&n.to_string(), kind))
    }

    /// A size as it is, by a name (the same for the same number), or not at all.
    fn size(&mut self, n: i64) -> Size {
        match self.next() {
            0..8 => Size::Known(n),
            8..12 if n != 0 => self.symbol(n),
            _ => Size::Unknown,
        }
    }

    fn tensor(&mut self, tensor: &Tensor) -> TensorType {
        let dtype = (self.next() > 2).then_some(tensor.dtype());
        if self.next() == 0 {
            return TensorType { dtype, sizes: None };
        }
        TensorType::new(dtype, tensor.dims().iter().map(|&n| self.size(n as i64)).collect::<Sizes>())
    }

    fn argument<'a>(&mut self, own: &'a Own) -> ArgType<'a> {
        let is_told = self.next() > 2;
        match own {
            Own::None => ArgType::None,
            Own::Tensor(tensor) => ArgType::Tensor(self.tensor(tensor)),
            Own::Tensors(tensors) => ArgType::Tensors(tensors.iter().map(|tensor| self.tensor(tensor)).collect()),
            Own::Number(_) => ArgType::Number,
            Own::Int(n) => ArgType::Int(self.size(*n)),
            Own::Ints(ints) => ArgType::Ints(ints.iter().map(|&n| self.size(n)).collect()),
            Own::Bool(value) => ArgType::Bool(is_told.then_some(*value)),
            Own::Text(text) => ArgType::Text(is_told.then_some(text)),
            Own::DType(dtype) => ArgType::DType(is_told.then_some(*dtype)),
        }
    }
}

/// The value of an expression over numbers: `2 * 3 - (4 + 1) / 2`.
fn value_of(text: &str) -> i64 {
    let depth = |at: usize| text[..at].matches('(').count() - text[..at].matches(')').count();
    let split = |signs: [&str; 2]| {
        let places = signs.iter().flat_map(|sign| text.rmatch_indices(sign));
        places.filter(|(at, _)| depth(*at) == 0).max_by_key(|(at, _)| *at)
    };
    for signs in [[" + ", " - "], [" * ", " / "]] {
        if let Some((at, sign)) = split(signs) {
            let (left, right) = (value_of(&text[..at]), value_of(&text[at + sign.len()..]));
            return match sign.trim() {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                _ => left / right,
            };
        }
    }
    match (text.strip_prefix('(').and_then(|text| text.strip_suffix(')')), text.strip_prefix("-(")) {
        (Some(inner), _) => value_of(inner),
        (None, Some(_)) => -value_of(&text[1..]),
        _ => text.parse().or_else(|_| text.replace("--", "").parse()).expect("a number"),
    }
}

/// Whether what a rule says of a result, knowing little, is true of it.
fn allows(said: &TensorType, dtype: DType, dims: &[usize]) -> bool {
    let is_size = |size: &Size, n: usize| match *size {
        Size::Known(known) => known == n as i64,
        Size::Term(term) => value_of(&term.to_string()) == n as i64,
        Size::Unknown => true,
    };
    said.dtype.is_none_or(|said| said == dtype)
        && said
            .sizes
            .as_ref()
            .is_none_or(|sizes| sizes.len() == dims.len() && sizes.iter().zip(dims).all(|(size, &n)| is_size(size, n)))
}

/// Whether the call ran.
fn try_call(device: &Device, op: &'static Op, choices: &Choices) -> Result<bool, TestCaseError> {
    let own: Vec<Own> = (0..op.params.len()).map(|index| argument(device, op, index, choices)).collect();
    let args: Vec<Arg> = own.iter().map(Own::arg).collect();
    let raw = match ops::apply(op, device, &args) {
        Ok(raw) => raw,
        Err(error) => {
            let is_vague = matches!(&error, Error::Op { error: OpError::Unknown | OpError::Unaligned { .. }, .. });
            prop_assert!(!is_vague, "{} says nothing: {error}", op.name);
            return Ok(false);
        }
    };
    let result = Tensor::from(raw);
    let concrete: Vec<ArgType> = args
        .iter()
        .zip(op.params)
        .map(|(arg, param)| match (arg, param.default) {
            (Arg::None, Some(default)) => absent(default),
            (arg, _) => ArgType::from(arg),
        })
        .collect();
    let said = (op.rule)(&RuleArgs(&concrete)).map_err(|error| TestCaseError::fail(format!("{}: {error}", op.name)))?;
    prop_assert_eq!(said.layout(), Some(result.layout()), "{}", op.name);
    for round in 0..8 {
        let mut hide = Hide { state: choices.hidden.wrapping_add(round), symbols: HashMap::new() };
        ops::clear_terms();
        let types: Vec<ArgType> = own
            .iter()
            .zip(op.params)
            .map(|(own, param)| match (own, param.default) {
                (Own::None, Some(default)) => absent(default),
                (own, _) => hide.argument(own),
            })
            .collect();
        match (op.rule)(&RuleArgs(&types)) {
            Ok(said) => prop_assert!(
                allows(&said, result.dtype(), result.dims()),
                "{} of {types:?} gave {result:?}, and the rule says {said:?}",
                op.name
            ),
            Err(OpError::Unknown) => {}
            Err(error) => {
                prop_assert!(false, "{} of {types:?} gave {result:?}, and the rule refuses: {error}", op.name)
            }
        }
    }
    Ok(true)
}

fn absent(default: ops::DefaultValue) -> ArgType<'static> {
    match default {
        ops::DefaultValue::Absent => ArgType::None,
        ops::DefaultValue::Int(n) => ArgType::Int(Size::Known(n)),
        ops::DefaultValue::Number(_) => ArgType::Number,
        ops::DefaultValue::Bool(value) => ArgType::Bool(Some(value)),
        ops::DefaultValue::Text(text) => ArgType::Text(Some(text)),
    }
}

#[test]
fn any_call_of_any_operation() {
    let device = crate::device();
    for op in ops::all() {
        let ran = std::cell::Cell::new(0);
        let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        // The same calls every time, so that how many of them run does not depend on luck.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let result = TestRunner::new_with_rng(config, rng).run(&choices(), |choices| {
            ran.set(ran.get() + u32::from(try_call(&device, op, &choices)?));
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", op.name);
        }
        assert!(ran.get() >= 20, "{}: only {} of the calls ran, which tells too little", op.name, ran.get());
    }
}
