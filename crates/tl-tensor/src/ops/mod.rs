//! The operations: a file for each, or for each kind.
//!
//! A file has the operation's rows (parameters, the shape rule that serves the checker and the running program alike,
//! CPU kernel), its GPU program, in the same file or beside it in `<operation>_gpu.rs`, and its method on `Tensor`. A
//! row joins the language, the documentation and the tests by being in [`OPS`]. To add an elementwise operation, add a
//! line in `elementwise.rs`; to add another, write its file and put its rows into `table.rs`.
//!
//! Two operations are no rows, because they write a state beside their result: `causal_convolution.rs` and
//! `gated_delta_rule.rs`.

mod along_last;
mod attention;
mod attention_gpu;
mod attention_mask;
mod attention_pages;
mod cast;
mod causal_convolution;
mod concat;
mod create;
mod einsum;
mod einsum_order;
mod einsum_products;
mod einsum_spec;
mod elementwise;
mod embedding;
mod experts;
mod experts_gpu;
mod gated_delta_rule;
mod gather;
mod linear;
mod linear_gpu;
mod linear_matrix;
mod matmul;
mod norm;
mod reduce;
mod reduce_gpu;
mod reduce_plain;
mod reshape;
mod rope;
mod rope_gpu;
mod softmax;
mod softmax_gpu;
mod sort;
mod state;
mod swiglu;
mod table;
mod top;
mod view;
mod where_op;
mod yarn;

pub use attention::{Attention, MAX_HEAD_DIM};
pub use attention_pages::PagedSequence;
pub use causal_convolution::convolution_state;
pub use create::CreateTensors;
pub use gated_delta_rule::{DeltaStep, delta_state};
pub use rope::Rope;
pub use table::{OPS, all, by_name};

pub use crate::dispatch::{Link, MAX_LINKS, MAX_WAITING, Site, apply, apply_as, apply_at, apply_chain, link_layout};
pub use crate::op::{
    Arg, ArgType, Call, DefaultValue, Dispatch, GpuKernel, Group, Kind, Map, Op, OpKernel, Param, RuleArgs, TensorType,
};
pub use crate::operand::Operand;
pub use crate::size::{Size, Sizes};
pub use crate::term::{Mark, Symbol, Term, clear as clear_terms, mark as mark_terms};
