//! The table of operations.

use super::{
    attention, attention_mask, cast, concat, create, einsum, elementwise, embedding, experts, gather, linear, matmul,
    norm, reduce, reduce_plain, reshape, rope, softmax, sort, swiglu, top, view, where_op, yarn,
};
use crate::dispatch::contiguous;
use crate::op::Op;

/// Every operation.
pub static OPS: &[&[&Op]] = &[
    create::OPS,
    reshape::OPS,
    view::OPS,
    contiguous::OPS,
    concat::OPS,
    gather::OPS,
    cast::OPS,
    elementwise::TABLES[0],
    elementwise::TABLES[1],
    elementwise::TABLES[2],
    elementwise::TABLES[3],
    elementwise::TABLES[4],
    where_op::OPS,
    attention_mask::OPS,
    reduce::OPS,
    reduce_plain::OPS,
    softmax::OPS,
    sort::OPS,
    top::OPS,
    matmul::OPS,
    linear::OPS,
    experts::OPS,
    einsum::OPS,
    norm::OPS,
    swiglu::OPS,
    rope::OPS,
    yarn::OPS,
    attention::OPS,
    embedding::OPS,
];

/// All rows of [`OPS`], one after the other.
pub fn all() -> impl Iterator<Item = &'static Op> {
    OPS.iter().flat_map(|rows| rows.iter().copied())
}

/// The row with this name.
pub fn by_name(name: &str) -> Option<&'static Op> {
    all().find(|op| op.name == name)
}
