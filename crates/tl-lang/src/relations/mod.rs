//! Relations: entities, facts, rules and queries become ordinary statements and expressions over Boolean tensors, before
//! anything else is checked. So types, memory and evaluation know nothing of them.
//!
//! `declared` collects what a file declares, `conjunction` resolves the names in a body, `strata` orders the relations,
//! `einsum` makes a body one expression, `statements` puts all together. The fixpoint is semi-naive: a round joins only
//! what the round before has found.

mod conjunction;
mod declared;
mod einsum;
mod query;
mod soft;
mod statements;
mod strata;
mod tree;

pub(crate) use declared::{Relations, Reports, Role};
pub(crate) use query::query;
pub(crate) use statements::lower;
pub(crate) use tree::{BUILTIN_PREFIX, CAST_LIKE, is_hidden};
