//! The table of dot products of rows, by format.

use crate::element::{Element, FloatSlice};
use crate::quant::activations::Row;
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::prefetch::Prefetch;
use crate::quant::row_dot::RowDots;
use crate::quant::rows::Rows;
use crate::x86::avx512::{float_rows, formats};
use crate::x86::level::Avx512;
use crate::x86::walk::n_floats;

impl RowDots for Avx512 {
    #[inline(always)]
    fn block_dot(self, format: IntegerFormat, rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) -> bool {
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
    fn float_dot<W: Element>(self, rows: Rows<'_>, x: FloatSlice<'_>, out: &mut [f32]) -> bool {
        let is_whole = n_floats(x).is_multiple_of(float_rows::LANES);
        if is_whole {
            // SAFETY: the set proves AVX-512.
            unsafe { float_rows::dot::<W>(rows, x, out) };
        }
        is_whole
    }

    #[inline(always)]
    fn prefetches(self) -> &'static [Prefetch] {
        &Prefetch::ALL
    }
}
