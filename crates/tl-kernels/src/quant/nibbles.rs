//! Elements in halves of bytes. In blocks of 32, the low half of byte `j` is element `j`, the high half element `16 + j`; in
//! the groups of Q4_K and Q5_K, 64 elements in 32 bytes, the high half is element `32 + j`.
#![allow(unsafe_code)]

/// The 16 bytes as 32 values.
#[inline(always)]
pub(crate) fn unpack_halves(bytes: &[u8], values: &mut [u8]) {
    let (low, high) = values.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// Packs 32 values, each of 0 to 15, into 16 bytes.
#[inline(always)]
pub(crate) fn pack_halves(bytes: &mut [u8], value: impl Fn(usize) -> i32) {
    for (j, byte) in bytes[..16].iter_mut().enumerate() {
        *byte = value(j) as u8 | (value(16 + j) as u8) << 4;
    }
}

/// Groups of 32 bytes as 64 values each: the low halves, then the high halves.
#[inline(always)]
pub(crate) fn unpack_groups(bytes: &[u8], values: &mut [u8]) {
    for (bytes, values) in bytes.chunks_exact(32).zip(values.chunks_exact_mut(64)) {
        let (low, high) = values.split_at_mut(32);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            *low = byte & 15;
            *high = byte >> 4;
        }
    }
}

/// Packs values of 0 to 15 as [`unpack_groups`] takes them.
pub(crate) fn pack_groups(values: &[u8], bytes: &mut [u8]) {
    for (values, bytes) in values.chunks_exact(64).zip(bytes.chunks_exact_mut(32)) {
        let (low, high) = values.split_at(32);
        for ((low, high), byte) in low.iter().zip(high).zip(bytes) {
            *byte = low | high << 4;
        }
    }
}

/// The 32 fifth bits of a block, as values of 0 or 16 that are added to the halves.
#[inline(always)]
pub(crate) fn add_fifth_bits(bits: u32, values: &mut [u8]) {
    for (j, value) in values.iter_mut().enumerate() {
        *value |= ((bits >> j & 1) as u8) << 4;
    }
}

/// Packs 32 values, each of 0 to 31, into 4 bytes of fifth bits and 16 bytes of halves.
#[inline(always)]
pub(crate) fn pack_fifths(bytes: &mut [u8], value: impl Fn(usize) -> i32) {
    let fifths = (0..32).fold(0u32, |bits, j| bits | ((value(j) >> 4) as u32 & 1) << j);
    bytes[..4].copy_from_slice(&fifths.to_le_bytes());
    pack_halves(&mut bytes[4..], |j| value(j) & 15);
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use crate::quant::block::array;
    use crate::quant::dot::Place;
    use crate::quant::dot::pairs::both;
    use std::arch::x86_64::*;

    /// The halves of blocks `i` and `i + 4` of eight, of `BLOCK` bytes each, whose 16 bytes begin at `AT`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn pair<const BLOCK: usize, const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        i: usize,
        place: Place,
    ) -> [__m256i; 2] {
        place.ask_ahead(bytes, i, 4);
        let halves = both(array(&bytes[i * BLOCK + AT..][..16]), array(&bytes[(i + 4) * BLOCK + AT..][..16]));
        let mask = _mm256_set1_epi8(15);
        [_mm256_and_si256(halves, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(halves), mask)]
    }

    /// The halves of sub-blocks `i` and `i + 4` of the groups of Q4_K and Q5_K, whose 128 bytes begin at `AT`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn pair_of_groups<const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        i: usize,
        place: Place,
    ) -> [__m256i; 2] {
        place.ask_ahead(bytes, i, 4);
        [0, 1].map(|last| {
            let at = AT + i / 2 * 32 + last * 16;
            let halves = both(array(&bytes[at..][..16]), array(&bytes[at + 64..][..16]));
            let halves = if i.is_multiple_of(2) { halves } else { _mm256_srli_epi16::<4>(halves) };
            _mm256_and_si256(halves, _mm256_set1_epi8(15))
        })
    }

    /// Adds 16 where the fifth bits, four bytes at `AT` of each block, say so.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn add_fifths<const BLOCK: usize, const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        i: usize,
        halves: [__m256i; 2],
    ) -> [__m256i; 2] {
        let bits = |b: usize| _mm256_set1_epi32(i32::from_le_bytes(*array(&bytes[b * BLOCK + AT..][..4])));
        let bits = _mm256_blend_epi32::<0b1111_0000>(bits(i), bits(i + 4));
        let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
        [0, 1].map(|last| {
            let byte = 0x0202_0202_0202_0202 * last as i64;
            let (first, second) = (byte, byte + 0x0101_0101_0101_0101);
            let spread = _mm256_shuffle_epi8(bits, _mm256_set_epi64x(second, first, second, first));
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
            _mm256_or_si256(halves[last], _mm256_and_si256(set, _mm256_set1_epi8(16)))
        })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use crate::quant::activations::RowStretch;
    use crate::quant::block::array;
    use crate::quant::dot::avx2::load_half;
    use crate::quant::dot::avx512::{Sums, indexes, load_8, load_64, load_opaque, spread};
    use std::arch::x86_64::*;

    /// Of eight scales, those of half `h` of a stretch: four, over four lanes each.
    const HALVES: [[i32; 16]; 2] = spread([[0, 1, 2, 3], [4, 5, 6, 7]]);

    /// A stretch of activations in the order of the halves of four blocks: for half `h` of the stretch, the first 16
    /// elements of its four blocks, and the last 16.
    #[derive(Clone, Copy)]
    pub(crate) struct Halves {
        low: [__m512i; 2],
        high: [__m512i; 2],
        /// Minus the offset times the sums of the values.
        start: [__m512i; 2],
        /// The scale of each block over its four lanes.
        scales: [__m512; 2],
        /// The total of each block in the first of its four lanes.
        totals: [__m512; 2],
    }

    // SAFETY: registers, of which zeros are values.
    unsafe impl bytemuck::Zeroable for Halves {}

    impl Halves {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
        pub(crate) fn new(x: &RowStretch, offset: u8) -> Halves {
            let zero = _mm512_setzero_si512();
            let offset = _mm512_set1_epi8(offset as i8);
            let [[low_a, high_a], [low_b, high_b]] = [halves_of_four(x, 0), halves_of_four(x, 1)];
            let (low, high) = ([low_a, low_b], [high_a, high_b]);
            let start = [0, 1].map(|h| {
                let sums = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, offset, low[h]), offset, high[h]);
                _mm512_sub_epi32(zero, sums)
            });
            let scales = _mm512_castps256_ps512(load_8(&x.scales));
            let totals = _mm512_castps256_ps512(load_8(&x.totals));
            Halves {
                low,
                high,
                start,
                scales: [0, 1].map(|h| _mm512_permutexvar_ps(indexes(&HALVES[h]), scales)),
                totals: [0, 1].map(|h| _mm512_maskz_permutexvar_ps(0x1111, indexes(&HALVES[h]), totals)),
            }
        }
    }

    /// Of the four blocks of half `h` of a stretch, the first 16 elements, and the last 16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn halves_of_four(x: &RowStretch, h: usize) -> [__m512i; 2] {
        let quarters = x.values.as_chunks::<64>().0;
        let (a, b) = (load_64(&quarters[2 * h]), load_64(&quarters[2 * h + 1]));
        [_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b)]
    }

    /// The products of four blocks, those of half `h` of a stretch, whose values [`four_blocks`] gives: of each, four lanes with the
    /// sum of eight products.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn four_products(x: &Halves, h: usize, [low, high]: [__m512i; 2]) -> __m512i {
        _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(x.start[h], low, x.low[h]), high, x.high[h])
    }

    /// Of the scales of eight blocks, those of half `h` of a stretch, over four lanes each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn over_four(scales: __m256, h: usize) -> __m512 {
        _mm512_permutexvar_ps(indexes(&HALVES[h]), _mm512_castps256_ps512(scales))
    }

    /// Adds the products of a stretch: `half(h)` gives the values of half `h`, as [`four_blocks`] orders them, and the scales of its
    /// blocks over four lanes each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn add_products(sums: Sums, x: &Halves, half: impl Fn(usize) -> ([__m512i; 2], __m512)) -> Sums {
        let mut sums = sums;
        for (h, sum) in sums.iter_mut().enumerate() {
            let (halves, scales) = half(h);
            let products = four_products(x, h, halves);
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(scales, x.scales[h]), *sum);
        }
        sums
    }

    /// Adds the minima, which `half(h)` gives over four lanes each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn add_minima(sums: Sums, x: &Halves, half: impl Fn(usize) -> __m512) -> Sums {
        let mut sums = sums;
        for (h, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_fmadd_ps(half(h), x.totals[h], *sum);
        }
        sums
    }

    /// The bytes of the first three of four times 16.
    const FIRST_THREE: u64 = 0x0000_FFFF_FFFF_FFFF;

    /// Where to find 16 bytes of each of three blocks of `block` bytes, from byte `at` of each.
    const fn first_three(block: usize, at: usize) -> [u8; 64] {
        assert!(2 * block + at + 16 <= 64, "in one register");
        let mut table = [0; 64];
        let mut i = 0;
        while i < 48 {
            table[i] = (i / 16 * block + at + i % 16) as u8;
            i += 1;
        }
        table
    }

    /// The low and the high halves of the four blocks from `4 h` on, of `BLOCK` bytes each, whose 16 bytes begin at `AT`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn four_blocks<const BLOCK: usize, const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        h: usize,
    ) -> [__m512i; 2] {
        let window = load_opaque(array(&bytes[4 * h * BLOCK + AT..][..64]));
        four_of_window::<BLOCK, 0>(window, array(&bytes[(4 * h + 3) * BLOCK + AT..][..16]))
    }

    /// As [`four_blocks`], from 64 bytes in which the 16 of the first block begin at `AT`, and the 16 of the last one.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn four_of_window<const BLOCK: usize, const AT: usize>(
        window: __m512i,
        last: &[u8; 16],
    ) -> [__m512i; 2] {
        let last = _mm512_broadcast_i32x4(load_half(last));
        let places = load_64(const { &first_three(BLOCK, AT) });
        let four = _mm512_mask_permutexvar_epi8(last, FIRST_THREE, places, window);
        let mask = _mm512_set1_epi8(15);
        [_mm512_and_si512(four, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(four), mask)]
    }

    /// Adds 16 where the fifth bits, four bytes at `AT` of each block, say so.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn add_fifths<const BLOCK: usize, const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        h: usize,
        halves: [__m512i; 2],
    ) -> [__m512i; 2] {
        let tables = const { &[bytes_of_bits(BLOCK, AT), bytes_of_bits(BLOCK, AT + 2)] };
        let first = load_opaque(array(&bytes[4 * h * BLOCK..][..64]));
        let last = load_opaque(array(&bytes[4 * (h + 1) * BLOCK - 64..][..64]));
        let bit = _mm512_set1_epi64(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
        let sixteen = _mm512_set1_epi8(16);
        [0, 1].map(|half| {
            let bits = _mm512_permutex2var_epi8(first, load_64(&tables[half]), last);
            let set = _mm512_test_epi8_mask(bits, bit);
            _mm512_mask_add_epi8(halves[half], set, halves[half], sixteen)
        })
    }

    /// Where to find the two bytes at `at` of each of four blocks, eight times each, as [`pairs_of_bytes`] counts places.
    const fn bytes_of_bits(block: usize, at: usize) -> [u8; 64] {
        let mut table = [0; 64];
        let mut i = 0;
        while i < 64 {
            table[i] = place(block, i / 16, at + i % 16 / 8);
            i += 1;
        }
        table
    }

    /// The `f16` at `AT` of each of the four blocks of half `h`, as `f32` over four lanes each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(crate) fn half_scales<const BLOCK: usize, const AT: usize, const BYTES: usize>(
        bytes: &[u8; BYTES],
        h: usize,
    ) -> __m512 {
        let table = const { &pairs_of_bytes(BLOCK, AT) };
        // The first 64 bytes of the half have all that is wanted, or the last 64 have the rest.
        let first = load_opaque(array(&bytes[4 * h * BLOCK..][..64]));
        let picked = if 3 * BLOCK + AT + 2 <= 64 {
            _mm512_permutexvar_epi8(load_64(table), first)
        } else {
            let last = load_opaque(array(&bytes[4 * (h + 1) * BLOCK - 64..][..64]));
            _mm512_permutex2var_epi8(first, load_64(table), last)
        };
        _mm512_cvtph_ps(_mm512_castsi512_si256(picked))
    }

    /// Where to find the two bytes at `at` of each of four blocks, four times each.
    const fn pairs_of_bytes(block: usize, at: usize) -> [u8; 64] {
        let mut table = [0; 64];
        let mut i = 0;
        while i < 32 {
            table[i] = place(block, i / 8, at + i % 2);
            i += 1;
        }
        table
    }

    /// Byte `at` of block `b` of four: in their first 64 bytes, or (64 more) in their last 64.
    const fn place(block: usize, b: usize, at: usize) -> u8 {
        let place = b * block + at;
        (if place < 64 { place } else { place - (4 * block - 64) + 64 }) as u8
    }
}
