//! The table of dot products of rows, by format.

use crate::element::{Element, FloatSlice};
use crate::quant::activations::{GroupSize, MAX_GROUP, Prepared, RowStretch};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::prefetch::Prefetch;
use crate::quant::row_dot::RowDots;
use crate::quant::rows::Rows;
use crate::quant::tokens::FloatTokens;
use crate::workspace::Line;
use crate::x86::avx2::block_rows::Columns;
use crate::x86::avx2::{float_rows, formats};
use crate::x86::block_rows::group;
use crate::x86::level::Avx2;
use crate::x86::walk::n_floats;

impl RowDots for Avx2 {
    #[inline(always)]
    fn group(self, _format: IntegerFormat) -> GroupSize {
        GroupSize::of::<1, Columns>()
    }

    #[inline(always)]
    fn prepare(self, format: IntegerFormat, offset: u8, stretches: &[RowStretch; MAX_GROUP], lines: &mut [Line]) {
        let offset = match format {
            // Their values are signed.
            IntegerFormat::Q8_0 | IntegerFormat::IQ4_NL | IntegerFormat::IQ4_XS => 0,
            // What stands for an offset of one are the sums of the activations, which the minima are multiplied by.
            IntegerFormat::Q2_K => 1,
            _ => offset,
        };
        // SAFETY: the set proves avx2, fma and f16c.
        *group(lines) = unsafe { Columns::new(&stretches[0], offset) };
    }

    #[inline(always)]
    fn block_dot(self, format: IntegerFormat, rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) -> bool {
        // SAFETY: the set proves avx2, fma and f16c.
        unsafe {
            match format {
                IntegerFormat::Q8_0 => formats::q8_0::dot(rows, x, out),
                IntegerFormat::Q4_0 => formats::q4_0::dot(rows, x, out),
                IntegerFormat::Q4_1 => formats::q4_1::dot(rows, x, out),
                IntegerFormat::Q5_0 => formats::q5_0::dot(rows, x, out),
                IntegerFormat::Q5_1 => formats::q5_1::dot(rows, x, out),
                IntegerFormat::IQ4_NL => formats::iq4_nl::dot(rows, x, out),
                IntegerFormat::MXFP4 => formats::mxfp4::dot(rows, x, out),
                IntegerFormat::Q2_K => formats::q2_k::dot(rows, x, out),
                IntegerFormat::Q3_K => formats::q3_k::dot(rows, x, out),
                IntegerFormat::Q4_K => formats::q4_k::dot(rows, x, out),
                IntegerFormat::Q5_K => formats::q5_k::dot(rows, x, out),
                IntegerFormat::Q6_K => formats::q6_k::dot(rows, x, out),
                IntegerFormat::IQ4_XS => formats::iq4_xs::dot(rows, x, out),
            }
        }
        true
    }

    #[inline(always)]
    fn float_dot<W: Element>(self, rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) -> bool {
        let is_whole = n_floats(x).is_multiple_of(float_rows::LANES);
        if is_whole {
            // SAFETY: the set proves avx2, fma and f16c.
            unsafe { float_rows::dot::<W>(rows, x, out) };
        }
        is_whole
    }

    #[inline(always)]
    fn float_dots<W: Element>(self, rows: Rows<'_>, x: FloatTokens<'_>, out: &mut [f32]) -> bool {
        let is_whole = x.token(0).len().is_multiple_of(float_rows::LANES);
        if is_whole {
            // SAFETY: the set proves avx2, fma and f16c.
            unsafe { float_rows::dots::<W>(rows, x, out) };
        }
        is_whole
    }

    /// A third copy of the loop over rows keeps the compiler from inlining Q4_K's instructions in any of the copies.
    #[inline(always)]
    fn prefetches(self) -> &'static [Prefetch] {
        &Prefetch::ALL[..2]
    }
}
