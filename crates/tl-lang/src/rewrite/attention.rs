//! Attention as a textbook writes it, scores and weights as tensors of their own:
//!
//! ```text
//! softmax(apply_attention_mask(einsum("ihd,jhd->ihj", q, k) * scale, causal_mask(n, m).unsqueeze(1)), 2)
//! ```
//!
//! and these weights times `v`, by `einsum` with any letters in any order or by `@`, with or without scale and mask. It becomes
//!
//! ```text
//! if «attention takes q, k, v, n, m» { attention(q, k, v, true, scale) } else { «as written» }
//! ```
//!
//! so errors about wrong operands stay those of the written operations. The operands are evaluated before, in written order.
//! The results differ in that scores and weights are not rounded to `float16` in between.

use std::sync::Arc;

use tl_syntax::Span;
use tl_syntax::ast::BinaryOperator;
use tl_tensor::ops::by_name;

use crate::ir::{
    Argument, Block, Drops, Expr, ExprKind, Function, If, OpCall, PermutedTensor, Slot, Statement, WrittenAttention,
};
use crate::value::Value;
use crate::walk::Part;

/// Recognizes all attention in a function; true if there is any.
pub(super) fn recognize(function: &mut Function) -> bool {
    let Function { body, slots, holds_memory, .. } = function;
    let mut found = false;
    in_block(body, &mut |expr| {
        let mut operands = Vec::new();
        let Some(form) = form(expr, &mut operands) else { return };
        if !operands.iter().all(|(_, operand)| operand.assigns_nothing()) {
            return;
        }
        found = true;
        let mut new_slot = || {
            holds_memory.push(true);
            *slots += 1;
            *slots - 1
        };
        let (statements, operands) = name_operands(operands, &mut new_slot);
        replace(expr, statements, &operands, &form);
    });
    found
}

fn in_block(block: &mut Block, rewrite: &mut dyn FnMut(&mut Expr)) {
    block.for_each_part(&mut |part| in_part(part, rewrite));
}

fn in_part(part: Part<'_>, rewrite: &mut dyn FnMut(&mut Expr)) {
    match part {
        Part::Block(block) => in_block(block, rewrite),
        Part::Expr(expr) => {
            // Inner expressions first: the operands of one attention may contain another.
            expr.for_each_part(&mut |part| in_part(part, rewrite));
            rewrite(expr);
        }
    }
}

/// The role of an operand of attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Queries,
    Keys,
    Values,
    Factor,
    Divisor,
    MaskRows,
    MaskColumns,
}

/// The operands found so far, in written order.
type Operands<'e> = Vec<(Role, &'e mut Expr)>;

/// The order of dimensions of the operands and of the result.
struct Form {
    /// Of queries `[n, heads, d]`, of keys and of values `[m, heads, d]`.
    queries: [usize; 3],
    keys: [usize; 3],
    values: [usize; 3],
    /// The result's dimensions, as indices into `[n, heads, d]`.
    result: [usize; 3],
    is_causal: bool,
}

/// Finds the form, and the operands in written order.
fn form<'e>(expr: &'e mut Expr, operands: &mut Operands<'e>) -> Option<Form> {
    let (outer, [left, right]) = product(expr)?;
    let (scores, of_weights, of_values) = if is_op(left, "softmax") {
        let scores = weights(left, operands)?;
        operands.push((Role::Values, right));
        (scores, outer.left, outer.right)
    } else {
        operands.push((Role::Values, left));
        (weights(right, operands)?, outer.right, outer.left)
    };
    let Scores { rows, columns, heads, queries, keys, is_causal } = scores;
    let [n, m, h] = [rows, columns, heads].map(|place| of_weights[place]);
    let d = of_values.into_iter().find(|letter| ![n, m, h].contains(letter))?;
    let values = places(of_values, [m, h, d])?;
    let result = [0, 1, 2].map(|at| [n, h, d].iter().position(|letter| *letter == outer.result[at]));
    let result = [result[0]?, result[1]?, result[2]?];
    Some(Form { queries, keys, values, result, is_causal })
}

/// Which dimensions of the scores are queries, keys and heads, and which those of the operands.
struct Scores {
    rows: usize,
    columns: usize,
    heads: usize,
    queries: [usize; 3],
    keys: [usize; 3],
    is_causal: bool,
}

/// `softmax(scores, dim)`, masked or not.
fn weights<'e>(expr: &'e mut Expr, operands: &mut Operands<'e>) -> Option<Scores> {
    let [Argument::One(scores), dim] = op(expr, "softmax")? else { return None };
    let columns = dim_of(dim, 3)?;
    if !is_op(scores, "apply_attention_mask") {
        return scaled(scores, columns, operands);
    }
    let [Argument::One(scores), Argument::One(mask)] = op(scores, "apply_attention_mask")? else { return None };
    let scores = scaled(scores, columns, operands)?;
    let mut dims = mask_dims(mask, operands)?;
    while dims.len() < 3 {
        dims.insert(0, MaskDim::One);
    }
    let expected = [(scores.rows, MaskDim::Rows), (scores.columns, MaskDim::Columns), (scores.heads, MaskDim::One)];
    let fits = dims.len() == 3 && expected.iter().all(|(at, dim)| dims.get(*at) == Some(dim));
    fits.then_some(Scores { is_causal: true, ..scores })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MaskDim {
    Rows,
    Columns,
    One,
}

/// `causal_mask(n, m)` or `causal_mask(n)`, with inserted dimensions of size 1.
fn mask_dims<'e>(expr: &'e mut Expr, operands: &mut Operands<'e>) -> Option<Vec<MaskDim>> {
    if is_op(expr, "unsqueeze") {
        let [Argument::One(inner), dim] = op(expr, "unsqueeze")? else { return None };
        let mut dims = mask_dims(inner, operands)?;
        dims.insert(dim_of(dim, dims.len() + 1)?, MaskDim::One);
        return Some(dims);
    }
    let [Argument::One(rows), columns] = op(expr, "causal_mask")? else { return None };
    operands.push((Role::MaskRows, rows));
    if let Argument::One(columns) = columns {
        operands.push((Role::MaskColumns, columns));
    }
    Some(vec![MaskDim::Rows, MaskDim::Columns])
}

/// The scores, plain or multiplied or divided by a number.
fn scaled<'e>(expr: &'e mut Expr, columns: usize, operands: &mut Operands<'e>) -> Option<Scores> {
    if is_op(expr, "div") {
        let [Argument::One(left), Argument::One(right)] = op(expr, "div")? else { return None };
        let scores = self::scores(left, columns, operands)?;
        operands.push((Role::Divisor, right));
        return Some(scores);
    }
    if !is_op(expr, "mul") {
        return scores(expr, columns, operands);
    }
    let [Argument::One(left), Argument::One(right)] = op(expr, "mul")? else { return None };
    if is_op(left, "einsum") || is_op(left, "matmul") {
        let scores = self::scores(left, columns, operands)?;
        operands.push((Role::Factor, right));
        return Some(scores);
    }
    operands.push((Role::Factor, left));
    scores(right, columns, operands)
}

/// The products of queries and keys. The keys are the operand with the dimension `columns` of the result.
fn scores<'e>(expr: &'e mut Expr, columns: usize, operands: &mut Operands<'e>) -> Option<Scores> {
    let (letters, [left, right]) = product(expr)?;
    let m = letters.result[columns];
    let (queries, keys, roles) = if letters.left.contains(&m) {
        (letters.right, letters.left, [Role::Keys, Role::Queries])
    } else {
        (letters.left, letters.right, [Role::Queries, Role::Keys])
    };
    operands.extend(roles.into_iter().zip([left, right]));
    let h = *letters.result.iter().find(|letter| **letter != m && keys.contains(letter))?;
    let n = *letters.result.iter().find(|letter| **letter != m && **letter != h)?;
    let d = *keys.iter().find(|letter| !letters.result.contains(letter))?;
    let [rows, columns, heads] = places(letters.result, [n, m, h])?;
    let (queries, keys) = (places(queries, [n, h, d])?, places(keys, [m, h, d])?);
    Some(Scores { rows, columns, heads, queries, keys, is_causal: false })
}

/// The positions of the wanted letters; `None` if one is missing.
fn places(letters: [u8; 3], wanted: [u8; 3]) -> Option<[usize; 3]> {
    let [a, b, c] = wanted.map(|wanted| letters.iter().position(|letter| *letter == wanted));
    Some([a?, b?, c?])
}

/// A product of two operands with three dimensions each.
struct Letters {
    left: [u8; 3],
    right: [u8; 3],
    result: [u8; 3],
}

impl Letters {
    fn parse(spec: &str) -> Option<Letters> {
        let (operands, result) = spec.split_once("->")?;
        let (left, right) = operands.split_once(',')?;
        let three = |text: &str| <[u8; 3]>::try_from(text.trim().as_bytes()).ok();
        let letters = Letters { left: three(left)?, right: three(right)?, result: three(result)? };
        // A repeated letter in an operand takes a diagonal.
        let is_plain = |[a, b, c]: [u8; 3]| a != b && b != c && a != c;
        (is_plain(letters.left) && is_plain(letters.right) && is_plain(letters.result)).then_some(letters)
    }
}

fn product(expr: &mut Expr) -> Option<(Letters, [&mut Expr; 2])> {
    if is_op(expr, "matmul") {
        let [Argument::One(left), Argument::One(right)] = op(expr, "matmul")? else { return None };
        return Some((Letters { left: *b"bij", right: *b"bjk", result: *b"bik" }, [left, right]));
    }
    let [Argument::One(spec), Argument::One(left), Argument::One(right), Argument::Missing] = op(expr, "einsum")?
    else {
        return None;
    };
    let Some(Value::Str(spec)) = spec.constant() else { return None };
    Some((Letters::parse(spec)?, [left, right]))
}

fn is_op(expr: &Expr, name: &str) -> bool {
    matches!(&expr.kind, ExprKind::Op(call) if call.row.name == name)
}

/// The arguments of the operation with this name.
fn op<'e>(expr: &'e mut Expr, name: &str) -> Option<&'e mut [Argument]> {
    match &mut expr.kind {
        ExprKind::Op(call) if call.row.name == name => Some(&mut call.arguments),
        _ => None,
    }
}

/// A constant dimension of `rank`; the last one if it is left out.
fn dim_of(argument: &Argument, rank: usize) -> Option<usize> {
    let number = |expr: &Expr| match expr.constant() {
        Some(Value::Int(n)) => Some(*n),
        _ => None,
    };
    let dim = match argument {
        Argument::Missing => -1,
        Argument::One(Expr { kind: ExprKind::Negate(expr), .. }) => number(expr)?.checked_neg()?,
        Argument::One(expr) => number(expr)?,
        Argument::Several(_) => return None,
    };
    let dim = if dim < 0 { dim + rank as i64 } else { dim };
    usize::try_from(dim).ok().filter(|dim| *dim < rank)
}

/// A variable or a constant.
enum Operand {
    Local { slot: Slot, name: Arc<str> },
    Constant(Value),
}

impl Operand {
    fn expr(&self, span: Span) -> Expr {
        match self {
            Operand::Local { slot, name } => {
                Expr::new(ExprKind::Local { slot: *slot, last: false, name: name.clone() }, span)
            }
            Operand::Constant(value) => Expr::of(value.clone(), span),
        }
    }
}

/// Moves operands other than variables and constants into new variables.
fn name_operands(
    operands: Vec<(Role, &mut Expr)>,
    new_slot: &mut dyn FnMut() -> Slot,
) -> (Vec<Statement>, Vec<(Role, Operand)>) {
    let mut statements = Vec::new();
    let mut name = |(role, expr): (Role, &mut Expr)| {
        let operand = match &expr.kind {
            ExprKind::Local { slot, name, .. } => Operand::Local { slot: *slot, name: name.clone() },
            ExprKind::Constant(value) => Operand::Constant((**value).clone()),
            _ => {
                let slot = new_slot();
                let operand = Operand::Local { slot, name: format!("{role:?}").into() };
                let value = std::mem::replace(expr, operand.expr(expr.span));
                statements.push(Statement::Set { slot, value, unread: false });
                operand
            }
        };
        (role, operand)
    };
    let operands = operands.into_iter().map(&mut name).collect();
    (statements, operands)
}

/// Replaces the written expression by the choice between it and the operation.
fn replace(expr: &mut Expr, statements: Vec<Statement>, operands: &[(Role, Operand)], form: &Form) {
    let span = expr.span;
    let mut separately = std::mem::replace(expr, Expr::unit(span));
    mark(&mut separately);
    let of = |role: Role| operands.iter().find(|(of, _)| *of == role).map(|(_, operand)| operand.expr(span));
    let block = |value| Block { statements: Vec::new(), value: Some(Box::new(value)) };
    let value = match (condition(of, form), fused(of, form, span)) {
        (Some(written), Some(fused)) => {
            let choice = If {
                condition: Expr::new(ExprKind::IsAttention(Box::new(written)), span),
                then: block(fused),
                then_drops: Drops::new(),
                otherwise: block(separately),
                otherwise_drops: Drops::new(),
            };
            Expr::new(ExprKind::If(Box::new(choice)), span)
        }
        _ => separately,
    };
    *expr = Expr::new(ExprKind::Block(Block { statements, value: Some(Box::new(value)) }), span);
}

/// The condition under which the operation gives the written result.
fn condition(of: impl Fn(Role) -> Option<Expr>, form: &Form) -> Option<WrittenAttention> {
    let mask = match of(Role::MaskRows) {
        // `causal_mask(n)` is square.
        Some(rows) => Some([rows, of(Role::MaskColumns).or_else(|| of(Role::MaskRows))?]),
        None => None,
    };
    Some(WrittenAttention {
        queries: PermutedTensor { tensor: of(Role::Queries)?, dims: form.queries },
        keys: PermutedTensor { tensor: of(Role::Keys)?, dims: form.keys },
        values: PermutedTensor { tensor: of(Role::Values)?, dims: form.values },
        scale: of(Role::Factor).or_else(|| of(Role::Divisor)),
        mask,
    })
}

/// The operation, its result in the written order of dimensions.
fn fused(of: impl Fn(Role) -> Option<Expr>, form: &Form, span: Span) -> Option<Expr> {
    let one = || Expr::of(Value::Float(1.0), span);
    let scale = match (of(Role::Factor), of(Role::Divisor)) {
        (Some(factor), _) => factor,
        (None, Some(divisor)) => {
            let (left, right) = (Box::new(one()), Box::new(divisor));
            Expr::new(ExprKind::Binary { operator: BinaryOperator::Divide, left, right }, span)
        }
        (None, None) => one(),
    };
    let row = by_name("attention")?;
    let mut arguments = vec![
        Argument::One(permuted(of(Role::Queries)?, form.queries)),
        Argument::One(permuted(of(Role::Keys)?, form.keys)),
        Argument::One(permuted(of(Role::Values)?, form.values)),
        Argument::One(Expr::of(Value::Bool(form.is_causal), span)),
        Argument::One(scale),
    ];
    // No window, no cap, no sinks.
    arguments.resize_with(row.params.len(), || Argument::Missing);
    let call = OpCall::new(row, arguments.into_boxed_slice());
    Some(permuted(Expr::new(ExprKind::Op(Box::new(call)), span), form.result))
}

/// Updates the marks of operations whose operands were replaced.
fn mark(expr: &mut Expr) {
    if let ExprKind::Op(call) = &mut expr.kind {
        for argument in &mut call.arguments {
            if let Argument::One(expr) = argument {
                mark(expr);
            }
        }
        call.update_marks();
    }
}

/// The tensor with its dimensions in this order.
fn permuted(tensor: Expr, dims: [usize; 3]) -> Expr {
    let span = tensor.span;
    let (false, Some(row)) = (dims == [0, 1, 2], by_name("permute")) else { return tensor };
    let dims = dims.map(|dim| Expr::of(Value::Int(dim as i64), span));
    let arguments = [Argument::One(tensor), Argument::Several(Box::new(dims))];
    Expr::new(ExprKind::Op(Box::new(OpCall::new(row, Box::new(arguments)))), span)
}

#[cfg(test)]
mod tests {
    use tl_device::Device;
    use tl_syntax::SourceMap;

    use super::*;
    use crate::check::{CheckOptions, Checked, check};
    use crate::compile::compile;
    use crate::eval::{self, Environment};
    use crate::host::{CapturedHost, Host};
    use crate::ir::Program;
    use crate::model::open_model;

    type Check = fn(&str, &str, &CheckOptions, &mut dyn Host, &mut SourceMap) -> Checked;

    fn checked(text: &str, check: Check) -> Program {
        let (mut host, mut sources) = (CapturedHost::default(), SourceMap::new());
        // Operands that do not fit are wanted here.
        let options = CheckOptions { leaves_shapes: true, ..CheckOptions::default() };
        let checked = check("t", text, &options, &mut host, &mut sources);
        let diagnostics = checked.diagnostics;
        checked.program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"))
    }

    /// The program's output, and its error if it has one.
    fn run(program: &Program) -> (String, Option<String>) {
        let mut host = CapturedHost::default();
        let environment = Environment { device: &Device::cpu(), host: &mut host, open_model };
        let error = eval::run(program, environment, 1 << 20).err();
        let error = error.map(|error| format!("{} at {:?}", error.diagnostic.message, error.diagnostic.span()));
        (host.output, error)
    }

    fn count(program: &mut Program) -> usize {
        let mut found = 0;
        for function in &mut program.functions {
            in_block(&mut function.body, &mut |expr| {
                found += usize::from(matches!(expr.kind, ExprKind::IsAttention(_)));
            });
        }
        found
    }

    const SIZES: [[usize; 4]; 5] = [[1, 7, 2, 8], [5, 5, 3, 4], [4, 9, 1, 16], [1, 1, 1, 1], [33, 40, 6, 32]];

    /// Runs `body` on `q: [n, h, e]`, `k, v: [m, h, e]`, the heads of keys standing for several, and compares it with `fused`.
    fn compare(body: &str, fused: &str, is_recognized: bool) {
        for [n, m, h, e] in SIZES {
            let text = format!(
                "fn written(q: float32[n, h, e], k: float32[m, h, e], v: float32[m, h, e]) -> float32[?, ?, ?] {{\n{body}\n}}\n\
                 seed(5)\nlet q = randn([{n}, {h}, {e}], float32)\n\
                 let k = randn([{m}, 1, 1, {e}], float32).broadcast_to([{m}, 1, {h}, {e}]).reshape([{m}, {h}, {e}])\n\
                 let v = randn([{m}, {h}, {e}], float32)\n\
                 let expected = {fused}\n\
                 let found = written(q, k, v)\n\
                 print(shape(found) == shape(expected), item(max(abs(found - expected))) < 0.0001)\n"
            );
            let mut program = checked(&text, compile);
            assert_eq!(count(&mut program), usize::from(is_recognized), "{text}");
            assert_eq!(run(&program), ("true true\n".to_owned(), None), "{text}");
            assert_eq!(run(&checked(&text, check)), ("true true\n".to_owned(), None), "{text}");
        }
    }

    #[test]
    fn however_it_is_written() {
        let causal = "attention(q, k, v)";
        let textbook = "let scores = einsum(\"ihd,jhd->ihj\", q, k) * (1.0 / sqrt(e))
            let mask = causal_mask(n, m).unsqueeze(1)
            let weights = softmax(apply_attention_mask(scores, mask), 2)
            einsum(\"ihj,jhd->ihd\", weights, v)";
        compare(textbook, causal, true);
        for (from, to) in [
            ("ihd,jhd->ihj", "AhC, bhC -> Ahb"),
            ("ihj,jhd->ihd", " xyz,zyw -> xyw"),
            ("q, k)", "q, k + 0.0)"),
            ("* (1.0 / sqrt(e))", "/ sqrt(e)"),
            ("einsum(\"ihj,jhd->ihd\", weights, v)", "einsum(\"jhd,ihj->ihd\", v, weights)"),
            ("einsum(\"ihd,jhd->ihj\", q, k)", "einsum(\"jhd,ihd->ihj\", k, q)"),
            (".unsqueeze(1)", ".unsqueeze(-2)"),
            ("mask), 2)", "mask), -1)"),
            ("mask), 2)", "mask))"),
        ] {
            let body = textbook.replace(from, to);
            assert_ne!(body, textbook, "{from}");
            compare(&body, causal, true);
        }
        // Other orders of the dimensions.
        let heads_first =
            "let weights = softmax(apply_attention_mask(einsum(\"ihd,jhd->hij\", q, k) / sqrt(e), causal_mask(n, m)))
            einsum(\"hij,jhd->ihd\", weights, v)";
        compare(heads_first, causal, true);
        compare(&heads_first.replace("->ihd", "->hid"), &format!("{causal}.transpose(0, 1)"), true);
        compare(&heads_first.replace("->ihd", "->dhi"), &format!("{causal}.transpose(0, 2)"), true);
        let products = "softmax(q.transpose(0, 1) @ k.permute([1, 2, 0]) / sqrt(e)) @ v.transpose(0, 1)";
        compare(products, "attention(q, k, v, causal: false).transpose(0, 1)", true);
        // Without a scale, with another one.
        compare(
            "einsum(\"ihj,jhd->ihd\", softmax(einsum(\"ihd,jhd->ihj\", q, k)), v)",
            "attention(q, k, v, causal: false, scale: 1)",
            true,
        );
        compare(
            "einsum(\"ihj,jhd->ihd\", softmax(2 * einsum(\"ihd,jhd->ihj\", q, k)), v)",
            "attention(q, k, v, causal: false, scale: 2)",
            true,
        );
    }

    /// Memory for the result suffices; the written operations would need scores and weights too.
    #[test]
    fn the_result_takes_memory_alone() {
        for [n, m, h, e] in SIZES {
            let text = format!(
                "fn written(q: float16[n, h, e], k: float16[m, h, e], v: float16[m, h, e]) -> float16[n, h, e] {{
                    let scores = einsum(\"ihd,jhd->ihj\", q, k) * (1.0 / sqrt(e))
                    let weights = softmax(apply_attention_mask(scores, causal_mask(n, m).unsqueeze(1)), 2)
                    einsum(\"ihj,jhd->ihd\", weights, v)
                }}
                let q = randn([{n}, {h}, {e}])
                let k = randn([{m}, 1, 1, {e}]).broadcast_to([{m}, 1, {h}, {e}]).reshape([{m}, {h}, {e}])
                buffer_reserve([{n}, {h}, {e}], 1)
                buffer_seal()
                print(shape(written(q, k, k)), buffer_stats().taken)\n"
            );
            assert_eq!(run(&checked(&text, compile)), (format!("[{n}, {h}, {e}] 1\n"), None), "{text}");
            let (_, error) = run(&checked(&text, check));
            assert!(error.is_some_and(|error| error.contains("memory is sealed")), "{text}");
        }
    }

    /// Forms that resemble attention and are not, or that only the running program can tell.
    #[test]
    fn what_is_something_else() {
        let plain = "attention(q, k, v, causal: false)";
        let written = "einsum(\"ihj,jhd->ihd\", softmax(einsum(\"ihd,jhd->ihj\", q, k) / sqrt(e)), v)";
        compare(written, plain, true);
        // A value is read twice.
        compare(
            "let s = einsum(\"ihd,jhd->ihj\", q, k) / sqrt(e)\nlet w = softmax(s - s + s)\neinsum(\"ihj,jhd->ihd\", w, v)",
            plain,
            false,
        );
        // Sums over other letters.
        for (spec, expected) in [
            ("nhd,mhn->nhm", false),
            ("ihd,jhd->ijh", false),
            ("ihd,jhd->hij", false),
            ("ihd,jkd->ihj", false),
            ("ihd,jhd->ihj", true),
        ] {
            let text = format!(
                "fn f(q: float32[?, ?, ?]) {{ print(shape(einsum(\"ihj,jhd->ihd\", softmax(einsum(\"{spec}\", q, q)), q))) }}\n"
            );
            assert_eq!(count(&mut checked(&text, compile)) == 1, expected, "{text}");
        }
        // The scale is a tensor: known when it runs.
        compare(&written.replace("sqrt(e)", "sqrt(full([1], e, float32))"), plain, true);
        // A mask of one row stands for every query.
        let all = "let scores = apply_attention_mask(einsum(\"ihd,jhd->ihj\", q, k) / sqrt(e), causal_mask(1, m).unsqueeze(1))
            einsum(\"ihj,jhd->ihd\", softmax(scores), v)";
        compare(all, plain, true);
        // Heads of another size.
        compare(&written.replace(", v)", ", concat([v, v], 2))"), &format!("concat([{plain}, {plain}], 2)"), true);
    }

    /// Errors are those of the written operations.
    #[test]
    fn what_does_not_fit() {
        for (q, k, v, is_wrong) in [
            ("[4, 2, 8]", "[5, 3, 8]", "[5, 3, 8]", true),
            ("[4, 2, 8]", "[5, 2, 7]", "[5, 2, 8]", true),
            ("[4, 2, 8]", "[5, 2, 8]", "[6, 2, 8]", true),
            ("[4, 2, 8]", "[5, 2, 8]", "[5, 1, 8]", true),
            ("[6, 2, 8]", "[5, 2, 8]", "[5, 2, 8]", false),
            ("[4, 2, 8]", "[0, 2, 8]", "[0, 2, 8]", false),
            ("[4, 2, 0]", "[5, 2, 0]", "[5, 2, 0]", false),
            ("[2, 1, 1100]", "[3, 1, 1100]", "[3, 1, 1100]", false),
        ] {
            let text = format!(
                "fn written(q: float16[?, ?, ?], k: float16[?, ?, ?], v: float16[?, ?, ?]) {{
                    let scores = einsum(\"ihd,jhd->ihj\", q, k) * 0.5
                    let mask = causal_mask(shape(q)[0], shape(k)[0]).unsqueeze(1)
                    let weights = softmax(apply_attention_mask(scores, mask), 2)
                    let seen = einsum(\"ihj,jhd->ihd\", weights, v)
                    print(to_list(seen))
                }}
                print(\"before\")
                written(ones({q}), ones({k}), ones({v}))\n"
            );
            let mut program = checked(&text, compile);
            assert_eq!(count(&mut program), 1, "{text}");
            let (printed, error) = run(&program);
            assert_eq!(error.is_some(), is_wrong, "{text}\n{error:?}");
            assert_eq!((printed, error), run(&checked(&text, check)), "{text}");
        }
    }
}
