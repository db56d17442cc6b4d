//! Where the tokens of a product lie, and how they become panels.

use super::layout::{GemmLayout, LANES, MAX_STRETCH};
use crate::element::Element;
use crate::isa::Isa;
use crate::scratch::Scratch;
use crate::workspace::Line;
use std::ops::Range;

/// Where tokens lie, and where their results go.
#[derive(Clone, Copy)]
pub(crate) enum Tokens<'a, X> {
    /// One after the other, in the output as in the input.
    InOrder(&'a [X]),
    /// Token `t` gives row `rows[t]` of the output. It is row `(first + rows[t]) / shared_by` of `x`.
    Listed {
        /// Activations.
        x: &'a [X],
        /// Rows of the output, none of them twice.
        rows: &'a [u32],
        /// Rows that the activations give before the output at hand.
        first: usize,
        /// Rows that each row of the activations gives.
        shared_by: usize,
    },
}

impl<X: Element> Tokens<'_, X> {
    /// Packs a stretch of the 16 tokens from `first_token` on, or of those that there are; see [`GemmLayout::pack`].
    pub(crate) fn pack<L: GemmLayout>(
        &self,
        layout: L,
        isa: Isa,
        first_token: usize,
        (k, range): (usize, Range<usize>),
        lines: &mut [Line],
    ) {
        match *self {
            Tokens::InOrder(x) => {
                layout.pack(isa, &x[first_token * k..x.len().min((first_token + LANES) * k)], k, range, lines)
            }
            Tokens::Listed { x, rows, first, shared_by } => {
                let rows = &rows[first_token..rows.len().min(first_token + LANES)];
                let mut room = Scratch::<X, { LANES * MAX_STRETCH }>::new();
                let len = range.len();
                let gathered = room.zeroed(rows.len() * len);
                for (&row, values) in rows.iter().zip(gathered.chunks_exact_mut(len)) {
                    let token = (first + row as usize) / shared_by;
                    values.copy_from_slice(&x[token * k..][range.clone()]);
                }
                layout.pack(isa, gathered, len, 0..len, lines);
            }
        }
    }
}
