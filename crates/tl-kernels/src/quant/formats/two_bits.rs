//! Levels in pairs of bits, as Q2_K and Q3_K keep them: in each 128 elements, bits `2 i` and `2 i + 1` of byte `j` of 32
//! belong to element `32 i + j`. Both have scales for 16 elements each.

/// 64 bytes as 256 values of 0 to 3.
#[inline(always)]
pub(crate) fn unpack_pairs(bytes: &[u8], values: &mut [u8]) {
    for (bytes, values) in bytes.chunks_exact(32).zip(values.chunks_exact_mut(128)) {
        for (i, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, byte) in values.iter_mut().zip(bytes) {
                *value = byte >> (2 * i) & 3;
            }
        }
    }
}

/// Packs the lowest two bits of 256 values.
pub(crate) fn pack_pairs(values: &[u8; 256], bytes: &mut [u8]) {
    for (values, bytes) in values.as_chunks::<128>().0.iter().zip(bytes.chunks_exact_mut(32)) {
        for (j, byte) in bytes.iter_mut().enumerate() {
            *byte = (0..4).fold(0, |bits, i| bits | (values[32 * i + j] & 3) << (2 * i));
        }
    }
}
