//! What a checked function becomes before it runs: the same values, in fewer steps. Values that one operation makes for the
//! next are handed over without a variable ([`lets`]), so that chains reach across statements; attention that is written out
//! becomes the operation ([`attention`]).
//!
//! Needs the ends of values that `liveness` marks, and leaves them to be marked anew.

use crate::ir::Function;
mod attention;
mod lets;
mod walk;

/// Rewrites a function whose ends of values are marked. True where they must be marked again.
pub(crate) fn rewrite(function: &mut Function) -> bool {
    let joined = lets::join(&mut function.body);
    let recognized = attention::recognize(function);
    joined || recognized
}
