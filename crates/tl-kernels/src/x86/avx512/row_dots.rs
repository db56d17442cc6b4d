//! The table of dot products of rows, by format.

use crate::element::{Element, FloatSlice};
use crate::quant::activations::{GroupSize, MAX_GROUP, Prepared, RowStretch};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::gemv::BLOCK_TOKENS;
use crate::quant::prefetch::Prefetch;
use crate::quant::row_dot::{GemvTokens, RowDots};
use crate::quant::rows::Rows;
use crate::quant::tokens::FloatTokens;
use crate::quant::weight::{Dot, WeightKernels};
use crate::workspace::Line;
use crate::x86::avx512::columns::{Columns, HalvedColumns, IN_ORDER, OF_FOURS, SplitColumns};
use crate::x86::avx512::super_blocks::{IN_PAIRS, IN_PARTS};
use crate::x86::avx512::{float_rows, formats};
use crate::x86::block_rows::group;
use crate::x86::level::Avx512;
use crate::x86::walk::n_floats;

impl RowDots for Avx512 {
    #[inline(always)]
    fn group(self, format: IntegerFormat) -> GroupSize {
        match format {
            IntegerFormat::Q8_0 => GroupSize::of::<2, HalvedColumns>(),
            IntegerFormat::Q2_K | IntegerFormat::Q3_K | IntegerFormat::Q6_K => GroupSize::of::<2, SplitColumns>(),
            _ => GroupSize::of::<2, Columns>(),
        }
    }

    #[inline(always)]
    fn prepare(self, format: IntegerFormat, offset: u8, stretches: &[RowStretch; MAX_GROUP], lines: &mut [Line]) {
        match format {
            IntegerFormat::Q8_0 => *group(lines) = HalvedColumns::new(stretches, offset),
            IntegerFormat::Q4_K | IntegerFormat::Q5_K => *group(lines) = Columns::new(stretches, offset, &IN_PAIRS),
            IntegerFormat::Q6_K => *group(lines) = SplitColumns::new(stretches, offset, &IN_PARTS),
            // What stands for an offset of one are the sums of the activations, which the minima are multiplied by.
            IntegerFormat::Q2_K => *group(lines) = SplitColumns::new(stretches, 1, &IN_ORDER),
            IntegerFormat::Q3_K => *group(lines) = SplitColumns::new(stretches, offset, &IN_ORDER),
            _ => *group(lines) = Columns::new(stretches, offset, &OF_FOURS),
        }
    }

    #[inline(always)]
    fn block_dot(self, format: IntegerFormat, rows: Rows<'_>, x: Prepared<'_>, out: &mut [f32]) -> bool {
        // SAFETY: the set proves AVX-512.
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
    fn gemv_tokens(self, format: &WeightKernels) -> GemvTokens {
        if self.has_tiles() || self.rounds_floats() && matches!(format.dot, Dot::Float(_)) {
            // A panel costs the same however full it is.
            return GemvTokens { most: BLOCK_TOKENS, most_left: 0 };
        }
        GemvTokens::new(format, BLOCK_TOKENS, 6)
    }

    #[inline(always)]
    fn float_dot<W: Element>(self, rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) -> bool {
        let is_whole = n_floats(x).is_multiple_of(float_rows::LANES);
        if is_whole {
            // SAFETY: the set proves AVX-512.
            unsafe { float_rows::dot::<W>(rows, x, out) };
        }
        is_whole
    }

    #[inline(always)]
    fn float_dots<W: Element>(self, rows: Rows<'_>, x: FloatTokens<'_>, out: &mut [f32]) -> bool {
        let is_whole = x.token(0).len().is_multiple_of(float_rows::LANES);
        if is_whole {
            // SAFETY: the set proves AVX-512.
            unsafe { float_rows::dots::<W>(rows, x, out) };
        }
        is_whole
    }

    #[inline(always)]
    fn prefetches(self) -> &'static [Prefetch] {
        &Prefetch::ALL
    }
}
