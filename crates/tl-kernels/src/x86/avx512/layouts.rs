//! The layouts of products of many tokens: tiles of AMX or pairs of `bf16` where the set has them, else the portable ones.

use crate::element::Element;
use crate::quant::gemm::choice::{GemmLayouts, LayoutVisitor, with_portable_layout};
use crate::quant::gemm::layout::{LANES, Lanes, TILE_ROWS};
use crate::quant::gemm::multiply::TileSums;
use crate::quant::weight::WeightKernels;
use crate::x86::avx512::bf16_pairs::PairLayout;
use crate::x86::avx512::registers::{load, store};
use crate::x86::avx512::tiles::{TileLayout, parts};
use crate::x86::avx512::transpose::transpose;
use crate::x86::level::Avx512;
use std::arch::x86_64::*;

impl GemmLayouts for Avx512 {
    fn with_layout<X: Element, V: LayoutVisitor>(self, format: &WeightKernels, visitor: V) -> V::Output {
        match parts::<X>(format) {
            Some([1, activation_parts]) if self.has_tiles() => {
                visitor.visit(TileLayout::<1>::new(self, format, activation_parts))
            }
            Some([_, activation_parts]) if self.has_tiles() => {
                visitor.visit(TileLayout::<2>::new(self, format, activation_parts))
            }
            _ => match PairLayout::new(self, format) {
                Some(layout) => visitor.visit(layout),
                None => with_portable_layout(format, visitor),
            },
        }
    }
}

impl TileSums for Avx512 {
    #[inline(always)]
    fn add_transposed(
        self,
        sums: &[Lanes; TILE_ROWS],
        start: &[f32; TILE_ROWS],
        tokens: &mut [[f32; TILE_ROWS]; LANES],
    ) {
        // SAFETY: the set proves AVX-512.
        unsafe { add_transposed(sums, start, tokens) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_transposed(sums: &[Lanes; TILE_ROWS], start: &[f32; TILE_ROWS], tokens: &mut [[f32; TILE_ROWS]; LANES]) {
    let columns = sums.as_chunks::<LANES>().0.iter().zip(start.as_chunks::<LANES>().0);
    for (c, (sums, start)) in columns.enumerate() {
        let start = _mm512_castsi512_ps(load(start));
        let columns = transpose(std::array::from_fn(|r| load(&sums[r])));
        for (values, column) in tokens.iter_mut().zip(columns) {
            let sum = _mm512_add_ps(_mm512_castsi512_ps(column), start);
            store(&mut values.as_chunks_mut().0[c], _mm512_castps_si512(sum));
        }
    }
}
