//! Elements in halves of bytes. In blocks of 32, the low half of byte `j` is element `j`, the high half element `16 + j`; in
//! the groups of Q4_K and Q5_K, 64 elements in 32 bytes, the high half is element `32 + j`.

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
