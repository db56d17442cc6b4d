//! Rewrites of a checked function: variables that only pass one operation's result to the next are inlined ([`lets`]), and
//! attention that is written out becomes the operation ([`attention`]).
//!
//! Needs the marks of `liveness`, and invalidates them.

use crate::ir::Function;
mod attention;
mod lets;

/// Rewrites a function that `liveness` has marked; true if it must be marked again.
pub(crate) fn rewrite(function: &mut Function) -> bool {
    let inlined = lets::inline(&mut function.body);
    let recognized = attention::recognize(function);
    inlined || recognized
}
