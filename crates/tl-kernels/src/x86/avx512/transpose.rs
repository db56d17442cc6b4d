//! Rows of 16 words as columns.

use crate::x86::avx512::registers::{load, store};
use std::arch::x86_64::*;

/// Exchanges rows and columns of 16 by 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Of rows 4g to 4g + 3, register 4g + j has the columns j, 4 + j, 8 + j and 12 + j.
    let mut fours = pairs;
    for g in 0..4 {
        let [a, b, c, d] = [pairs[4 * g], pairs[4 * g + 1], pairs[4 * g + 2], pairs[4 * g + 3]];
        fours[4 * g] = _mm512_unpacklo_epi64(a, c);
        fours[4 * g + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * g + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * g + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut columns = fours;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let [even_ab, odd_ab] =
            [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)];
        let [even_cd, odd_cd] =
            [_mm512_shuffle_i32x4::<0b10_00_10_00>(c, d), _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d)];
        columns[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_ab, even_cd);
        columns[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_ab, odd_cd);
        columns[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_ab, even_cd);
        columns[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_ab, odd_cd);
    }
    columns
}

/// As [`transpose`], in position.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_square(square: &mut [[f32; 16]; 16]) {
    // A loop and no closure, which would not be inlined.
    let mut rows = [_mm512_setzero_si512(); 16];
    for (register, row) in rows.iter_mut().zip(&*square) {
        *register = load(row);
    }
    for (row, column) in square.iter_mut().zip(transpose(rows)) {
        store(row, column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn rows_become_columns() {
        #[target_feature(enable = "avx512f")]
        fn transposed(rows: &[[i32; 16]; 16]) -> [[i32; 16]; 16] {
            let mut columns = [[0; 16]; 16];
            let registers = transpose(std::array::from_fn(|r| load(&rows[r])));
            columns.iter_mut().zip(registers).for_each(|(column, register)| store(column, register));
            columns
        }
        if Isa::all().any(|isa| isa.name() == "avx512") {
            let rows = std::array::from_fn(|r| std::array::from_fn(|c| (r * 100 + c) as i32));
            // SAFETY: this CPU has AVX-512.
            let columns = unsafe { transposed(&rows) };
            assert!((0..256).all(|i| columns[i % 16][i / 16] == rows[i / 16][i % 16]));
        }
    }
}
